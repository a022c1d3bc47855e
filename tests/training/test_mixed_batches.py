"""Runs that weigh classes and mix samples: what they descend on, and that they resume exactly."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import CLASSES, Tripwire, assert_resumes_to, tiny_data, tiny_net

from offramp import Recipe, UserError, fit
from offramp.nets import MultiExitNet
from offramp.tasks import Boxes, Classification
from offramp.training._tasks import tasks_of

RECIPE = Recipe(
    epochs=2, batch_size=8, lr=0.05, augment="none", mixup=0.4, cutmix=1.0, class_weights="balanced"
)


@pytest.mark.parametrize("method", ["joint", "kd", "dfs+cagrad", "dr-mgf"])
def test_a_stopped_run_goes_on_to_the_bit(method, tmp_path):
    reference = tmp_path / "reference"
    run = fit(tiny_net(), tiny_data(), method, RECIPE, reference, quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = 7, lambda: (_ for _ in ()).throw(KeyError("stop"))
    with pytest.raises(KeyError):
        fit(tiny_net(), data, method, RECIPE, tmp_path / "run", quiet=True)
    assert_resumes_to((RECIPE, reference, run), tmp_path / "run", method)


def test_balanced_classes_have_equal_weight():
    data = tiny_data()
    (task,) = set(tasks_of(tiny_net(), RECIPE, data).values())
    counts = torch.bincount(data.train.labels, minlength=CLASSES)
    torch.testing.assert_close(
        counts * torch.tensor(task.class_weights), torch.full((CLASSES,), len(data.train) / CLASSES)
    )


def test_weights_of_classes_are_in_the_loss():
    """With a weight for one class alone, a run learns nothing but that class."""
    weights = [0.0, 1.0, 0.0]
    recipe = Recipe(epochs=6, batch_size=8, lr=0.1, augment="none", class_weights=weights)
    run = fit(tiny_net(dropout=0.0), tiny_data(), "joint", recipe, quiet=True)
    with torch.no_grad():
        outputs = run.net(torch.rand(20, 3, 8, 8))
    assert all((logits.argmax(1) == 1).all() for logits in outputs)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"class_weights": "equal"}, "one number of 0 or more per class, or 'balanced'"),
        ({"class_weights": [0, 0, 0]}, "class_weights are all 0"),
        ({"mixup": -1}, "mixup is -1, must be a number 0 or more"),
    ],
)
def test_values_that_cannot_be(settings, match):
    with pytest.raises(UserError, match=match):
        Recipe(**settings)


def test_settings_of_classification_need_outputs_that_classify():
    net = tiny_net()
    other = MultiExitNet(net.stages, net.heads, input_size=net.input_size, task=Boxes())
    with pytest.raises(UserError, match="class_weights is for classification"):
        tasks_of(other, RECIPE, tiny_data())
    with pytest.raises(UserError, match=r"class_weights are 2, .* has 3 classes; give one per class"):
        tasks_of(net, RECIPE.replace(class_weights=[1.0, 2.0]), tiny_data())
    assert Classification() in tasks_of(net, Recipe(), tiny_data()).values()
