"""Figures that nothing is trained for: the toy, and images per second, beside what was published."""

import json

import pytest

from offramp import UserError
from offramp.cli import main
from offramp.reproduce import COMPUTATIONS, estimate, plan, reproduce
from offramp.reproduce._efficiency import by_batch

STAND_IN = "CIFAR-100=digits"


def test_the_toy_descends_as_its_closed_forms_do(tmp_path):
    found = reproduce(plan("dr-mgf-fig3", out=tmp_path / "toy", scale="1/60"))
    b, a = found.document["problems"]
    sums = {row["method"]: row["sum"] for row in b["methods"]}
    # plain descent on (theta1 - 1)^2 + (theta2 + 1)^2 over w: the difference of the thetas alone moves
    theta, expected = 0.0, {}
    for step in range(1, 51):
        theta -= 0.05 * 2 * (theta - 1) * 0.05**2  # theta1 = -theta2; A maps (1, -1) to 0.05 of it, twice
        if step in (30, 50):
            expected[str(step)] = 2 * (theta - 1) ** 2
    assert sums["joint"] == pytest.approx(expected, rel=1e-6)
    assert sums["dr-mgf"]["50"] < sums["joint"]["50"]
    assert {"toy-a.json", "toy-a.png", "toy-b.json", "toy-b.png", "reproduction.txt"} <= {
        path.name for path in (tmp_path / "toy").iterdir()
    }
    assert a["problem"] == "a" and "not published" in found.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data": "digits"}, "dr-mgf-fig3 trains nothing and reads no data; leave `data=...` out"),
        ({"only": ["joint"], "seeds": [1]}, "leave `only=...`, `seeds=...` out"),
        ({"scale": "2"}, "scale is '2', must be a fraction"),
        ({"out": ""}, "out is '', must be the path of a folder"),
    ],
)
def test_arguments_without_a_meaning_are_refused(given, says):
    with pytest.raises(UserError) as caught:
        plan("dr-mgf-fig3", **given)
    assert says in str(caught.value)


def test_images_per_second_stand_beside_the_published_ones(tmp_path):
    found = reproduce(plan("dfs-fig4-vgg7", out=tmp_path, stand_in=STAND_IN, scale="1/60"))
    rows = found.document["rows"]
    assert [(row["method"], row["batch"]) for row in rows] == [
        (name, batch) for batch in (5, 7, 8) for name in ("joint", "byot", "dfs")
    ]
    published = {(row["published"]["batch"], row["method"]): row["published"]["fps"] for row in rows}
    assert published[300, "joint"] == 523.19 and published[400, "byot"] == 405.39
    assert published[500, "dfs"] == 607.90
    for row in rows:
        seconds = [row[phase] for phase in ("forward", "backward", "data", "other")]
        assert row["fps"] == pytest.approx(row["batch"] / sum(seconds))
        assert row["iterations"] == 2
    title = found.text.splitlines()[0]
    assert title.endswith(": vgg7:width=2 on digits, which stands in for CIFAR-100, at scale 1/60")
    assert "differs: network vgg7:width=2, published: vgg7\n" in found.text
    assert (tmp_path / "images-per-second.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "reproduction.json").read_text())["stands_in"] is True


def test_every_beta_has_a_published_speed(tmp_path):
    planned = plan("dfs-fig5-speed", out=tmp_path, stand_in=STAND_IN, scale="1/250")
    rows = planned.computation.report(planned).document["rows"]
    assert [(row["beta"], row["published"]["fps"]) for row in rows] == [
        (0.1, 583.28), (0.3, 586.39), (0.5, 607.90), (0.7, 587.84), (0.9, 574.16),
    ]  # fmt: skip


def test_the_larger_network_is_timed_on_images_of_its_size(tmp_path):
    planned = plan("dfs-fig4-vgg16", out=tmp_path, stand_in=STAND_IN, scale="1/64")
    rows = by_batch(128)(planned).document["rows"]
    found = [(row["batch"], row["published"]["fps"]) for row in rows]
    assert found == [(2, 158.73), (2, 147.13), (2, 176.58)]


def test_what_trains_nothing_has_no_estimate():
    with pytest.raises(UserError, match=r"plan is a ComputationPlan, must be that of trainings"):
        estimate(plan("dr-mgf-fig3"))
    for name in (3, ["dr-mgf-fig3"], None):
        with pytest.raises(UserError, match="name is"):
            plan(name)


def test_too_few_images_for_a_batch_are_refused(tmp_path):
    planned = plan("dfs-fig4-vgg7", out=tmp_path, stand_in="CIFAR-100=digits")
    with pytest.raises(UserError, match=r"1437 training images.*batches of 1500; give more images"):
        by_batch(1500)(planned)


def test_the_command_lists_and_plans_them(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "--list", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capfd.readouterr().out)}
    assert set(COMPUTATIONS) <= set(listed)
    assert "not known" in listed["dr-mgf-fig9"]["not_known"]
    assert main(["reproduce", "dr-mgf-fig3", "--dry-run"]) == 0
    assert "no network is trained for it" in capfd.readouterr().out
    assert main(["reproduce", "dr-mgf-fig9"]) == 2
    assert "dr-mgf-fig9 cannot be reproduced: not known" in capfd.readouterr().err
    assert not [*tmp_path.iterdir()]
