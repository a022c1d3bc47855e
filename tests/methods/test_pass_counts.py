"""One value counts the passes of a step and prints them; the words are read as arithmetic to check it."""

import re

import pytest

from offramp.methods import method
from offramp.methods.passes import EACH, K, Passes

CASES = {
    "F + B": Passes(),
    "F": Passes(1, 0),
    "F + K B": Passes(1, K),
    "2 F + B": Passes(2, 1),
    "2 (F + B)": Passes(2, 2),
    "(K + 1) / 2 (F + B)": Passes((K + 1) / 2, (K + 1) / 2),
    "(0.125 K + 0.125) (F + B)": Passes(0.125 * K + 0.125, 0.125 * K + 0.125),
    "K (F + B) + 0.5 F": Passes(K, K) + Passes(0.5, 0),
    "F + (K + 1) / 20 B + B": Passes(1, (K + 1) / 2 / 10) + Passes(0, 1),
    "F + 0.25 (F + (K + 1) / 2 B) + B": Passes(1, 0) + 0.25 * Passes(1, (K + 1) / 2) + Passes(0, 1),
    "0.5 (F + K / 3 B) + 0.5 (F)": 0.5 * (Passes(1, K / 3) + Passes(1, 0)),
}


def read(words: str, outputs: int, forward: float, backward: float) -> float:
    """The words as arithmetic; what stands side by side is a product."""
    product = re.sub(r"(?<=[\w)]) (?=[(FBK])", " * ", words)
    return eval(product, {"K": outputs, "F": forward, "B": backward})


@pytest.mark.parametrize("words", CASES)
@pytest.mark.parametrize("outputs", [2, 7])
def test_passes_print_as_they_were_put_together_and_count_what_they_print(words, outputs):
    passes = CASES[words]
    assert str(passes) == words
    assert passes.of(outputs) == pytest.approx((read(words, outputs, 1, 0), read(words, outputs, 0, 1)))
    assert passes.joint(outputs) == pytest.approx(read(words, outputs, 1 / 3, 2 / 3))


TASKS = {
    "joint": "F + B",
    "separate": "K (F + B)",
    "pcgrad": "F + K B",
    "graddrop": "F + K B",
    "meta-gf": "(K + 1) (F + B)",
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_needs_the_whole_network(name):
    assert str(method(name).passes_of(["depth", "normals"])) == TASKS[name]
    assert method(name).passes_of(["exit 1", "exit 2"]) == method(name).passes


def test_passes_of_tasks_are_found_wherever_they_stand():
    passes = Passes(1, 0) + 0.25 * Passes(EACH, EACH / 8) + Passes(0, 1)
    assert str(passes.of_tasks()) == "F + 0.25 (K F + K / 8 B) + B"
    assert passes.of_tasks().of(3) == pytest.approx((1 + 0.25 * 3, 0.25 * 3 / 8 + 1))
