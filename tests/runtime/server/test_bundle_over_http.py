"""A real bundle behind HTTP: its answers are the network's, and hostile images are refused."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import struct
import zlib
from itertools import chain

import numpy as np
import pytest
from _http_client import HttpClient
from offramp_runtime import load
from running import png, running
from tiny_bundles import CLASSES, ImageNet, expected, softmax, write_bundle

IMAGE = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def client(images):
    with running(images.model) as client:
        yield client


def cut(case):
    """Images as the model reads them, which it does not resize, and what it is to say about them."""
    samples = case.samples(60, seed=3)
    exits, probabilities = expected(softmax(case.net.logits(samples)), case.net.thresholds)
    assert {*exits} == {1, 2, 3}
    return samples, exits, probabilities


def test_many_clients_get_the_answers_of_the_network_to_their_own_images(images, client):
    samples, exits, probabilities = cut(images)

    async def ask(number):
        sender, answers = HttpClient(str(client.base_url)), []
        for place in np.random.default_rng(number).permutation(60)[:10]:
            body = json.dumps({"input": samples[place].tolist(), "probabilities": True}).encode()
            answers.append((place, *await sender.post("/predict", body, "application/json")))
        sender.close()
        return answers

    async def all_at_once():
        return await asyncio.gather(*(ask(number) for number in range(64)))

    for place, status, answer in chain.from_iterable(asyncio.run(all_at_once())):
        assert status == 200
        assert answer["exit"] == exits[place]
        assert answer["cost"] == 100 * exits[place]
        assert answer["class"] == CLASSES[probabilities[place].argmax()]
        np.testing.assert_allclose(answer["probabilities"], probabilities[place], atol=1e-5)
        assert answer["confidence"] == pytest.approx(probabilities[place].max(), abs=1e-5)


def test_all_is_loaded_before_anybody_is_served(tmp_path):
    folder = write_bundle(tmp_path / "bundle", ImageNet())
    with running(load(folder, threads=1)) as client:
        shutil.rmtree(folder)
        assert client.get("/healthz").json() == {"status": "ok"}
        for path in ("/predict?threshold=2", "/walk?threshold=2"):
            assert client.post(path, content=WHOLE, headers=IMAGE).json()["exit"] == 3


def test_an_image_file_is_what_the_model_makes_of_it(images, client):
    photo = np.random.default_rng(0).integers(0, 256, (3, 40, 30), np.uint8)
    answer = images.model.predict(images.model.image_of(png(photo))[None])
    sent = [
        client.post("/predict", content=png(photo), headers=IMAGE),
        client.post("/predict", json={"image": base64.b64encode(png(photo)).decode()}),
    ]
    for response in sent:
        told = response.json()
        assert (told["prediction"], told["exit"]) == (answer.prediction[0], answer.exit[0])
        assert told["confidence"] == pytest.approx(answer.confidence[0], abs=1e-6)


def test_requests_have_thresholds_budgets_and_deadlines_of_their_own(images, client):
    samples, _, _ = cut(images)

    def exit_of(sample, query):
        return client.post(f"/predict?{query}", json={"input": sample.tolist()}).json()["exit"]

    assert {exit_of(sample, "threshold=0") for sample in samples[:5]} == {1}
    assert {exit_of(sample, "threshold=1.5") for sample in samples[:5]} == {3}
    assert {exit_of(sample, "threshold=1.5&budget=250") for sample in samples[:5]} == {2}
    assert exit_of(samples[0], "timeout=60") in (1, 2, 3)
    small = client.post("/predict?budget=99", json={"input": samples[0].tolist()})
    assert small.status_code == 400
    assert "at least 100, the cost of exit 1" in small.json()["error"]


def test_a_walk_ends_where_the_prediction_leaves(images, client):
    samples, exits, _ = cut(images)
    said = softmax(images.net.logits(samples))
    for place in range(10):
        told = client.post("/walk", json={"input": samples[place].tolist()}).json()
        assert told["exit"] == exits[place] == len(told["walk"])
        for number, step in enumerate(told["walk"]):
            row = said[number, place]
            assert step["confidence"] == pytest.approx(row.max(), abs=1e-5)
            assert [each["class"] for each in step["top"]] == [CLASSES[k] for k in np.argsort(-row)[:3]]
        limits = [step["threshold"] for step in told["walk"]]
        assert limits == pytest.approx([0.49, 0.55, None][: len(limits)], abs=1e-6)


def test_large_images_are_decoded_one_at_a_time_and_do_not_keep_small_ones_waiting(images, client):
    large, small = huge_png(4200), png(np.zeros((3, 9, 9), np.uint8))
    wanted = images.model.predict(images.model.image_of(large)[None])

    async def both():
        clients = [HttpClient(str(client.base_url)) for _ in range(8)]
        asked = [each.post("/predict", large if n % 2 else small) for n, each in enumerate(clients)]
        answers = await asyncio.gather(*asked)
        for each in clients:
            each.close()
        return answers

    told = asyncio.run(both())
    assert [status for status, _ in told] == [200] * 8
    assert {answer["exit"] for _, answer in told[1::2]} == {wanted.exit[0]}


def huge_png(side):
    """A whole PNG file of so many black pixels a side, which is small."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1 + -(-side // 8)) * side, 9)),
        (b"IEND", b""),
    )
    framed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


WHOLE = png(np.random.default_rng(1).integers(0, 256, (3, 30, 30), np.uint8))
HOSTILE = {
    "100 megapixels": (huge_png(10_000), "pixels"),
    "10 gigapixels": (huge_png(100_000)[:10_000], "pixels"),
    "cut off": (WHOLE[: len(WHOLE) // 2], "decode"),
    "a flipped byte": (WHOLE[:45] + bytes([WHOLE[45] ^ 1]) + WHOLE[46:], "decode"),
    "a PostScript program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "not run"),
    "a vector image": (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "known format"),
    "a script": (b"#!/bin/sh\n", "known format"),
    "nothing": (b"", "known format"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_refused_in_one_line(client, name):
    body, words = HOSTILE[name]
    for response in (
        client.post("/predict", content=body, headers=IMAGE),
        client.post("/walk", json={"image": base64.b64encode(body).decode()}),
    ):
        error = response.json()["error"]
        assert (response.status_code, words in error, "\n" in error) == (400, True, False), error


def test_a_net_of_words_is_asked_by_name(words):
    sample = words.each(words.samples(1))[0]
    exits, probabilities = expected(softmax(words.net.logits(words.samples(1))), words.net.thresholds)
    named = {name: array.tolist() for name, array in sample.items()}
    with running(words.model) as client:
        assert client.get("/model").json()["image"] is None
        told = client.post("/predict", json={"input": named}).json()
        assert (told["exit"], told["prediction"], told["cost"]) == (exits[0], probabilities[0].argmax(), None)
        long = {"words": [1] * 5000, "weights": [0.5] * 5000}  # the length is free
        assert client.post("/predict", json={"input": long}).status_code == 200
        refused = {
            "reads no images": client.post("/predict", content=WHOLE, headers=IMAGE),
            "an object with words, weights": client.post("/predict", json={"input": named["words"]}),
            "what its exits cost": client.post("/predict?budget=1", json={"input": named}),
            "weights must be numbers that float32 can hold": client.post(
                "/predict", json={"input": {**named, "weights": [1e39] * 7}}
            ),
        }
        for why, response in refused.items():
            assert (response.status_code, why in response.json()["error"]) == (400, True), response.text
