"""Runs on data of several targets, from the record to the result."""

from __future__ import annotations

import json

import pytest
import torch
from two_targets import KINDS, two_heads, two_targets

from offramp import Recipe, Run, UserError, fit

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, augment="crop-flip")


@pytest.mark.parametrize("method", ["joint", "pcgrad"])
def test_a_run_is_kept_and_read_again(method, tmp_path):
    data = two_targets(lack=0.5)
    run = fit(two_heads(), data, method, RECIPE, tmp_path / "run", quiet=True)
    assert [*run.result.outputs] == ["class", "box"]
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert recorded["targets"] == {
        "class": {"kind": "class", "classes": ["dark", "gray", "bright"]},
        "box": {"kind": "box"},
    }
    assert "classes" not in recorded
    again = Run.open(tmp_path / "run", net=two_heads(1), data=data)
    assert again.evaluate(data) == run.result


def test_settings_of_classes_reach_the_outputs_that_classify():
    """Balanced weights count the labels that are there."""
    from offramp.training._tasks import tasks_of

    data = two_targets(lack=0.5)
    recipe = RECIPE.replace(label_smoothing=0.1, class_weights="balanced")
    tasks = tasks_of(two_heads(), recipe, data)
    labels = data.train.targets["class"]
    counts = torch.tensor([(labels == k).sum() for k in range(3)]).double()
    assert tasks["class"].label_smoothing == 0.1
    assert tasks["class"].class_weights == pytest.approx((counts.sum() / (3 * counts)).tolist())
    assert tasks["box"] == two_heads().outputs["box"]
    with pytest.raises(UserError, match="class_weights are 2, shapes has 3 classes for 'class'"):
        tasks_of(two_heads(), RECIPE.replace(class_weights=[1, 2]), data)
    with pytest.raises(UserError, match="mixup is for classification, and box has another task"):
        tasks_of(two_heads(), RECIPE.replace(mixup=0.2), data)
    assert [*data.targets] == [*KINDS]
