"""Two processes with half of each batch take the steps of one with all of it, wrapped for it or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from binding_cases import assert_same
from processes import run_in_processes
from processes_by_hand import (
    CASES,
    DISTILLING,
    LABELLED,
    LACKING,
    NAMES,
    PRESENT,
    TwoResolutions,
    TwoTasks,
    dense_batch,
    gradients,
    joined_batch,
    labelled_batch,
    own_batch,
    tiny_net,
    trained,
)

JOB = Path(__file__).with_name("processes_by_hand.py")


@pytest.fixture(scope="module")
def out(made_once):
    return made_once("processes-by-hand", lambda out: run_in_processes(JOB, out))


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_several_processes_compute_what_one_does(out, name, wrapped):
    expected = trained(name, wrapped=False)
    for rank in range(2):
        found = torch.load(out / f"{name}-{wrapped}-{rank}.pt", weights_only=True)
        assert_same(found, expected, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", LACKING)
def test_processes_whose_batches_lack_other_targets_compute_what_one_does_with_all_samples(out, name, cut):
    """Batches of other sizes, labels that lack and classes that count differently; a step has no target."""
    joined = [joined_batch([own_batch(step, rank) for rank in range(2)]) for step in range(len(PRESENT))]
    expected = gradients(name, TwoTasks(), joined)
    assert all(gradient is None for gradient in expected[2])
    assert_both(out, f"{name}-cut-{cut}", expected)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_outputs_of_one_task_count_the_valid_pixels_of_their_own_resolution(out, cut):
    joined = [joined_batch([dense_batch(step, rank) for rank in range(2)]) for step in range(3)]
    assert_both(out, f"dense-cut-{cut}", gradients("joint", TwoResolutions(), joined))


@pytest.mark.slow
@pytest.mark.parametrize("sizes, cut", CASES)
@pytest.mark.parametrize("name", DISTILLING)
def test_distillation_over_processes_is_that_of_one_with_all_samples(out, name, sizes, cut):
    """At some steps one process has no labels, or none has."""
    steps = range(len(LABELLED))
    joined = [joined_batch([labelled_batch(step, rank, sizes) for rank in range(2)]) for step in steps]
    expected = gradients(name, tiny_net().eval(), joined, **DISTILLING[name])
    assert all(gradient is None for gradient in expected[3])
    assert_both(out, f"{name}-{sizes[0]}-{cut}", expected)


def assert_both(out, case, expected):
    """Check that both processes have the gradients of one, step by step."""
    for rank in range(2):
        found = torch.load(out / f"{case}-{rank}.pt", weights_only=True)
        for mine, theirs in zip(found, expected, strict=True):
            assert_same(mine, theirs, 1e-9)
