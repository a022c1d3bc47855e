"""The commands give the numbers and keys of ``data/commands.json``; old run folders keep working."""

from __future__ import annotations

import json
import shutil

import commands
import pytest

pytest.importorskip("tyro")

TEST, VALIDATION = (
    100 / 40,
    100 / 7,
)  # points of one image: rounding may turn the nearest to a tie of two logits
EXPECTED = json.loads((commands.DATA / "commands.json").read_text(encoding="utf-8"))
OLD = commands.DATA / "old_runs"


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    return commands.plain(commands.commands(folder), folder)


def tolerance(keys: tuple[str, ...]) -> dict[str, float]:
    """How far a number may be off, by the keys that lead to it."""
    if any("val_top1" in key for key in keys):
        return {"abs": VALIDATION}
    if any("top1" in key or key == "top5" for key in keys):
        return {"abs": TEST}
    if "importance" in keys or "importance_same_owners" in keys:
        return {"abs": VALIDATION}  # accuracies, and counts of filters
    if keys[-1] == "mean_gain":
        return {"rel": 0.1}  # a mean of gains of both signs
    if keys[-1] in ("gain", "correlation"):
        return {"rel": 5e-2}  # ratios of differences of float32 losses: an ulp of a loss moves them so far
    if "diagnose" in keys:
        return {"rel": 1e-4, "abs": 1e-6}  # differences of gradients that nearly cancel
    return {"rel": 5e-4 if "kd" in keys else 1e-5}


def check(value, expected, keys=()):
    where = ".".join(map(str, keys))
    assert type(value) is type(expected), where
    if isinstance(expected, dict):
        assert list(value) == list(expected), where
        for key in expected:
            check(value[key], expected[key], (*keys, key))
    elif isinstance(expected, list):
        assert len(value) == len(expected), where
        for one, other in zip(value, expected, strict=True):
            check(one, other, keys)
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, **tolerance(keys)), where
    else:
        assert value == expected, where


@pytest.mark.parametrize("command", ["train", "eval", "compare", "diagnose", "cost", "sweep"])
def test_command_says_what_it_said(command, said):
    check(said[command], EXPECTED[command], (command,))


@pytest.mark.parametrize("method", commands.METHODS)
def test_eval_is_the_result_of_the_training(method, said):
    assert said["eval"][method] == said["train"][method]["document"]


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(OLD, tmp_path / "old")


def test_finished_runs_evaluate_and_compare(old):
    for method in ("joint", "dr-mgf"):
        check(commands.offramp("eval", old / method), EXPECTED["eval"][method])
    compared = commands.offramp("compare", old / "joint", old / "dr-mgf")
    first, *_, last = EXPECTED["compare"]["groups"]
    check(commands.plain(compared["groups"], old), [first, last], ("compare",))


def test_learned_routes_of_a_finished_run_are_read(old):
    what = ("--what", "routes", "--out", old / "diagnosis")
    (run,) = commands.offramp("diagnose", old / "dr-mgf", *what)["runs"]
    check(run["routes"], EXPECTED["diagnose"]["dr-mgf"]["runs"][0]["routes"], ("diagnose",))


def test_a_finished_run_resumes_to_its_result(old):
    result = json.loads((old / "joint" / "result.json").read_text())
    assert commands.offramp("train", "--resume", "--out", old / "joint") == result


@pytest.mark.parametrize("method", ["dfs", "dr-mgf"])
def test_a_stopped_run_ends_as_if_it_had_been_left_alone(method, old):
    folder, expected = old / f"stopped-{method}", EXPECTED["train"][method]
    check(commands.offramp("train", "--resume", "--out", folder), expected["document"])
    check(commands.metrics(folder), expected["epochs"])
