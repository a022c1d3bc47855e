"""The diagnosis of a run on a data set per task: gradients of each output on the samples of its own set."""

from __future__ import annotations

import torch
from several_sets import partly_labelled, two_alphabets, two_sets, two_tasks

from offramp import Recipe, fit
from offramp.analysis import Settings, diagnose
from offramp.analysis._subject import subject_of
from offramp.analysis.gradients import task_gradients
from offramp.data import JointBatch
from offramp.reports import read_run

RECIPE = Recipe(epochs=1, batch_size=8, augment="none", streams="in-turn")


def subject(tmp_path, data, recipe):
    run = fit(two_tasks(), data, "joint", recipe, tmp_path / "run", quiet=True)
    return subject_of(run, read_run(tmp_path / "run"), "joint", "joint", {})


def test_gradients_of_sets_side_by_side(tmp_path):
    """Also of a run that has trained on them in turn."""
    found = subject(tmp_path, two_sets(), RECIPE)
    batches = [*found.batches(5)]
    assert len(batches) == 5
    for batch in batches:
        assert isinstance(batch, JointBatch)
        gradients = task_gradients(found.net, batch)
        for k, (name, task) in enumerate(found.net.outputs.items()):
            part = batch.parts[name]
            values, weights = task.loss(found.net(part.inputs)[k], part.targets[name])
            loss = (values * weights).sum() / weights.sum()
            expected = torch.autograd.grad(loss, found.net.stages[0][0].weight)[0]
            torch.testing.assert_close(gradients.gradients[k]["stages.0.0.weight"], expected)


def test_batches_without_targets_for_all_outputs_are_passed_over(tmp_path):
    found = subject(tmp_path, partly_labelled(), RECIPE.replace(streams="together"))
    batches = [*found.batches(4)]
    assert all(batch.targets.keys() == {"kind", "box"} for batch in batches)
    assert len(batches) == 4


def test_the_command_s_numbers_come_out(tmp_path):
    recipe = RECIPE.replace(train_limit=60, test_limit=20)
    fit(two_alphabets(), {"left": "digits", "right": "digits"}, "joint", recipe, tmp_path / "run", quiet=True)
    settings = Settings(batches=2, what=("conflict", "importance"))
    (found,) = diagnose([tmp_path / "run"], settings, net=two_alphabets()).runs
    assert found.interference is not None
    assert found.pruning is not None
