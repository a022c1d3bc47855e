"""Runs on data of several targets, from the record to the result."""

from __future__ import annotations

import json

import pytest
import torch
from two_targets import KINDS, TASKS, TwoHeads, two_heads, two_targets

from offramp import Recipe, Run, UserError, fit
from offramp.data import ImageData, Split, Target, TargetTensors
from offramp.tasks import Classification, MultiLabel, Regression

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


ONE_LOOP = ("joint", "pcgrad", "cagrad", "nash-mtl", "mgda", "imtl", "uncertainty")


@pytest.mark.parametrize("method", ONE_LOOP)
def test_a_task_that_no_sample_has_is_as_if_it_were_not_there(method):
    """A third decoder without targets moves neither trunk nor the others, nor itself."""
    size = Regression(target="size")
    nets = two_heads(), TwoHeads({**TASKS, "size": size}, (3, 4, 1))
    nets[1].load_state_dict(nets[0].state_dict(), strict=False)
    third = [parameter.clone() for parameter in nets[1].heads[2].parameters()]
    runs = []
    for net in nets:
        data = two_targets()
        if len(net.outputs) == 3:
            data = with_values(data)
        torch.manual_seed(0)
        runs.append(fit(net, data, method, RECIPE, quiet=True))
    weights = nets[1].state_dict()
    for name, expected in nets[0].state_dict().items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-6, atol=1e-7)
    assert all(map(torch.equal, nets[1].heads[2].parameters(), third))
    assert runs[0].result.outputs.keys() == runs[1].result.outputs.keys()


def with_values(data):
    """The data with a third target, which no sample has."""
    kinds = {**data.targets, "size": Target("values")}

    def more(split):
        nothing = torch.full((len(split), 1), torch.nan)
        return Split(split.images, TargetTensors({**split.targets, "size": nothing}, kinds))

    return ImageData(
        name=data.name, source=data.source, targets=kinds, train=more(data.train), val=more(data.val),
        load_test=lambda: more(data.test),
    )  # fmt: skip


class Stopping(Split):
    """Fails in the ninth batch that is read."""

    left = 8

    def _read(self, plan, **given):
        for batch in super()._read(plan, **given):
            if not self.left:
                raise KeyError("stop")
            self.left -= 1
            yield batch


@pytest.mark.parametrize("method", ["cagrad", "uncertainty", "dr-mgf"])
def test_a_stopped_run_goes_on_to_the_bit(method, tmp_path):
    recipe = RECIPE.replace(checkpoint_every=2)
    whole = fit(two_heads(), two_targets(lack=0.6), method, recipe, tmp_path / "whole", quiet=True)
    data = two_targets(lack=0.6, split=Stopping)
    with pytest.raises(KeyError):
        fit(two_heads(), data, method, recipe, tmp_path / "part", quiet=True)
    again = fit(
        two_heads(9), two_targets(lack=0.6), method, recipe, tmp_path / "part", resume=True, quiet=True
    )
    assert again.result == whole.result
    for name, expected in whole.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], expected)


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


def test_classes_and_several_labels_are_mixed(tmp_path):
    """Both targets become shares; a set in which some have no class is refused."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 8, 8), generator=draws, dtype=torch.uint8)
    samples = [(x, {"class": i % 3, "tags": [i % 2, 1]}) for i, x in enumerate(images)]
    tasks = {"class": Classification(target="class"), "tags": MultiLabel(target="tags")}
    recipe = RECIPE.replace(mixup=0.4, cutmix=1.0)
    fit(TwoHeads(tasks, (3, 2)), samples, "pcgrad", recipe, quiet=True)
    samples[4][1]["class"] = None
    with pytest.raises(UserError, match="mix the classes of images, and some of list have none"):
        fit(TwoHeads(tasks, (3, 2)), samples, "pcgrad", recipe, quiet=True)
