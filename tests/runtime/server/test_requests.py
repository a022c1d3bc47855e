"""What a client gets for what it asks: answers, and one clear line for everything else."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from fake_model import FakeModel, sample
from offramp_runtime import Input
from offramp_runtime.server import app
from offramp_runtime.server._arrays import array
from running import png, running, until
from starlette.exceptions import HTTPException

IMAGE = {"Content-Type": "image/png"}
SURE = sample(7, 0.2, 0.9)
ANSWER = {"prediction": 7, "class": "class 7", "exit": 2, "confidence": 230 / 255, "cost": 20}


@pytest.fixture(scope="module")
def client():
    with running(FakeModel(), max_body=100_000) as client:
        yield client


def as_json(**fields):
    return {"content": json.dumps(fields), "headers": {"Content-Type": "application/json"}}


def as_text(text):
    return {"content": text, "headers": {"Content-Type": "application/json"}}


BASE64 = base64.b64encode(png(SURE)).decode()


@pytest.mark.parametrize(
    "asked",
    [
        {"content": png(SURE), "headers": IMAGE},
        {"content": png(SURE), "headers": {"Content-Type": "application/octet-stream"}},
        as_json(image=BASE64),
        as_json(input=SURE.tolist()),
        as_json(input={"images": SURE.tolist()}),
        {**as_json(image=BASE64), "headers": {"Content-Type": "Application/JSON; charset=utf-8"}},
        as_json(image=BASE64, threshold=None),
    ],
)
def test_images_and_arrays_get_the_same_answer(client, asked):
    response = client.post("/predict", **asked)
    assert (response.status_code, response.json()) == (200, ANSWER)


def test_requests_have_limits_of_their_own(client):
    low = client.post("/predict?threshold=0.1", content=png(SURE), headers=IMAGE).json()
    high = client.post("/predict", **as_json(image=BASE64, threshold=1)).json()
    assert (low["exit"], high["exit"]) == (1, 3)


def test_probabilities_come_when_asked_for(client):
    answer = client.post("/predict?probabilities=true", content=png(SURE), headers=IMAGE).json()
    assert answer.pop("probabilities") == [float(number == 7) for number in range(200)]
    assert answer == ANSWER
    answer = client.post("/predict?probabilities=false", content=png(SURE), headers=IMAGE).json()
    assert answer == ANSWER


def test_a_walk_tells_what_each_exit_on_the_way_says(client):
    told = client.post("/walk", content=png(SURE), headers=IMAGE).json()
    steps = told.pop("walk")
    assert told.pop("exits") == [{"exit": 1, "cost": 10}, {"exit": 2, "cost": 20}, {"exit": 3, "cost": 30}]
    assert told == ANSWER
    assert [(step["exit"], step["confidence"], step["threshold"]) for step in steps] == [
        (1, 51 / 255, 0.8),
        (2, 230 / 255, 0.8),
    ]
    assert steps[0]["top"][0] == {"class": "class 7", "probability": 1.0}
    assert len(client.post("/walk?threshold=1", content=png(SURE), headers=IMAGE).json()["walk"]) == 3


CONFUSED = SURE.astype(float)
CONFUSED[0, 0, 0] = 0.5
REFUSED = [
    (as_text("{"), 400, "not JSON"),
    (as_text(b"\xff\xfe{"), 400, "not JSON"),
    (as_text("[" * 500), 400, "not JSON"),
    (as_text("[" * 90_000), 400, "more values than the inputs"),
    (as_json(input=[0] * 3 * 8 * 8 * 5), 400, "more values than the inputs"),
    (as_text('{"input": NaN}'), 400, "NaN is no number"),
    (as_text('{"input": ' + "9" * 5000 + "}"), 400, "not JSON"),
    (as_text('{"threshold": 0, "threshold": 1}'), 400, "a key stands twice"),
    (as_text("[1]"), 400, "not a JSON object"),
    (as_text("{}"), 400, 'one of "image"'),
    (as_json(image=BASE64, input=[1]), 400, 'one of "image"'),
    (as_json(image=[1]), 400, "base64 text of an image"),
    (as_json(image="ä"), 400, "not base64"),
    (as_json(image="A"), 400, "not base64"),
    (as_json(image=BASE64[:40]), 400, "not an image"),
    (as_json(image=""), 400, "not an image"),
    (as_json(input=[]), 400, "no numbers"),
    (as_json(input=[[1, 2], [3]]), 400, "equal lengths"),
    (as_json(input=["1"]), 400, "numbers that uint8"),
    (as_json(input=[None]), 400, "numbers that uint8"),
    (as_json(input=[True]), 400, "numbers that uint8"),
    (as_json(input=[True, 1]), 400, "numbers that uint8"),
    (as_json(input=[[1], 1]), 400, "equal lengths"),
    (as_json(input=["x" * 90_000, *[1] * 800]), 400, "numbers that uint8"),
    (as_json(input=[10**30]), 400, "numbers that uint8"),
    (as_json(input=[256]), 400, "whole numbers from 0 to 255"),
    (as_json(input=[-1]), 400, "whole numbers from 0 to 255"),
    (as_json(input=CONFUSED.tolist()), 400, "whole numbers from 0 to 255"),
    (as_json(input=[1.0]), 400, "whole numbers from 0 to 255, written without a point"),
    (as_text('{"input": [1e999]}'), 400, "whole numbers from 0 to 255"),
    (as_json(input=[1, 2, 3]), 400, "uint8 [3, 8, 8]"),
    (as_json(input={"tokens": [1]}), 400, '"input" must be an object with images'),
    (as_json(image=BASE64, threshhold=1), 400, "'threshhold' is not known"),
    (as_json(image=BASE64, **{"\ud800": 1}), 400, "is not known"),
    (as_json(image=BASE64, threshold="0.5"), 400, "threshold must be a number"),
    (as_json(image=BASE64, threshold=10**400), 400, "threshold must be a number"),
    (as_json(image=BASE64, threshold=True), 400, "threshold must be a number"),
    (as_json(image=BASE64, timeout=0), 400, "timeout"),
    (as_json(image=BASE64, probabilities=1), 400, "true or false"),
    (as_text('{"image": "", "threshold": 1e999}'), 400, "not an image"),
    ({"content": png(SURE), "headers": {"Content-Type": "text/plain"}}, 415, "text/plain"),
    ({"content": png(SURE)}, 415, "Content-Type is ''"),
    ({"content": b"", "headers": IMAGE}, 400, "not an image"),
    ({"content": b"\x89PNG\r\n\x1a\n", "headers": IMAGE}, 400, "not an image"),
    ({"content": b"x" * 100_001, "headers": IMAGE}, 413, "may have 100000 bytes"),
    ({"content": [b"x" * 60_000] * 2, "headers": IMAGE}, 413, "may have 100000 bytes"),
    ({"content": [b"x" * 50_000] * 2, "headers": IMAGE}, 400, "not an image"),  # as many as it may have
    ({"content": png(SURE), "headers": {**IMAGE, "Content-Encoding": "gzip"}}, 415, "Content-Encoding"),
]


@pytest.mark.parametrize(("asked", "status", "words"), REFUSED)
@pytest.mark.parametrize("path", ["/predict", "/walk"])
def test_a_bad_request_is_refused_in_one_line(client, path, asked, status, words):
    response = client.post(path, **asked)
    error = response.json()["error"]
    assert (response.status_code, words in error) == (status, True), error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("threshold=nan", "threshold must be a number"),
        ("threshold=", "threshold must be a number"),
        ("budget=inf", "budget must be a number"),
        ("threshold=0.5&threshold=0.6", "given twice"),
        ("what=1", "'what' is not known"),
    ],
)
def test_a_bad_limit_is_refused_in_one_line(client, query, words):
    response = client.post(f"/predict?{query}", content=png(SURE), headers=IMAGE)
    assert response.status_code == 400
    assert words in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/predict", 405, "POST"),
        ("HEAD", "/predict", 405, "POST"),
        ("PUT", "/walk", 405, "POST"),
        ("OPTIONS", "/predict", 204, "POST"),
        ("OPTIONS", "/healthz", 204, "GET, HEAD"),
        ("HEAD", "/healthz", 200, None),
        ("HEAD", "/", 200, None),
        ("GET", "/predict/", 404, None),
        ("GET", "/nothing", 404, None),
        ("OPTIONS", "/nothing", 404, None),
        ("GET", "/..%2f..%2fetc/passwd", 404, None),
        ("BREW", "/", 405, "GET, HEAD"),
    ],
)
def test_other_methods_and_paths_are_told_what_there_is(client, method, path, status, allowed):
    response = client.request(method, path)
    assert response.status_code == status
    if allowed is not None:
        assert sorted(response.headers["Allow"].split(", ")) == sorted(allowed.split(", "))
    if method == "HEAD":
        assert response.content == b""


def test_a_fault_of_the_model_is_its_request_s_alone(client, caplog):
    broken = client.post("/predict", content=png(sample(199, 1)), headers=IMAGE)
    assert (broken.status_code, broken.json()) == (500, {"error": "the server failed; its log says how"})
    until(lambda: "the net is broken" in caplog.text)  # it is logged behind the answer
    bad = client.post("/predict", content=png(sample(198, 1)), headers=IMAGE)
    assert (bad.status_code, bad.json()["error"]) == (400, "the confidence of exit 1 is not a number")
    assert client.post("/predict", content=png(SURE), headers=IMAGE).json() == ANSWER


def test_the_docs_name_every_path_metric_and_status_there_is(client):
    page = (Path(__file__).parents[3] / "docs" / "server.md").read_text()
    paths = {route.path for route in app(FakeModel()).routes}
    assert {*re.findall(r"^\| `(?:GET|POST) (\S+)`", page, re.MULTILINE)} == paths
    metrics = {line.split()[2] for line in client.get("/metrics").text.splitlines() if "# TYPE" in line}
    assert {*re.findall(r"^\| `(offramp_\w+)", page, re.MULTILINE)} == metrics
    for status in (status for _, status, _ in REFUSED):
        assert re.search(rf"^\|.*\b{status}\b.* \|", page, re.MULTILINE)


def test_a_long_text_among_numbers_takes_no_more_room_than_it_has():
    """An array of texts has room for the longest in every place: 40 TB here."""
    with pytest.raises(HTTPException, match="numbers that uint8"):
        array(["x" * 10**7, *[1] * 10**6], FakeModel.inputs[0])


def test_flags_are_true_and_false_and_no_numbers():
    flags = Input("flags", "bool", (2,))
    assert array([True, False], flags).tolist() == [True, False]
    with pytest.raises(HTTPException, match="flags must be true and false"):
        array([1, 0], flags)


def test_a_browser_is_not_to_guess_what_the_page_is(client):
    assert client.get("/").headers["X-Content-Type-Options"] == "nosniff"


def test_the_model_says_what_it_reads(client):
    assert client.get("/model").json() == {
        "classes": [*FakeModel.classes],
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [3, 8, 8]}],
        "image": {"channels": 3, "size": [8, 8], "cut": False},
        "exits": [{"exit": 1, "cost": 10}, {"exit": 2, "cost": 20}, {"exit": 3, "cost": 30}],
    }
