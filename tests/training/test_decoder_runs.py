"""Runs by which the decoders of several tasks share a trunk, with Deep Feature Surgery at its fork."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from tiny_runs import Tripwire, rows
from two_targets import two_decoders, two_heads, two_targets

import offramp
from offramp import Recipe, Run, UserError, fit
from offramp.data import Batch
from offramp.forks import Fork, GainFork
from offramp.training.operations import training_operations

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, augment="crop-flip", checkpoint_every=2)


def gradients(net, batch, method, **options):
    bound = offramp.method(method, options).bind(net)
    bound.backward(batch)
    return {name: p.grad for name, p in net.named_parameters()}


def batch(*keys):
    images, targets = torch.randn(4, 3, 8, 8), {"class": torch.tensor([0, 2, 1, 1]), "box": torch.rand(4, 4)}
    return Batch(images, {key: targets[key] for key in keys})


@pytest.mark.parametrize("method", ["dfs", "dfs-no-reference", "dfs+pcgrad"])
def test_a_run_that_is_stopped_ends_with_the_bits_of_one_left_alone(method, tmp_path):
    alone, stopped = two_decoders(), two_decoders()
    fit(alone, two_targets(lack=0.3), method, RECIPE, tmp_path / "alone", quiet=True)
    data = two_targets(lack=0.3, split=Tripwire)
    data.train.at, data.train.act = 4, stop
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, data, method, RECIPE, tmp_path / "stopped", quiet=True)
    stopped = two_decoders(seed=9)
    fit(stopped, two_targets(lack=0.3), method, RECIPE, tmp_path / "stopped", resume=True, quiet=True)
    torch.testing.assert_close(stopped.state_dict(), alone.state_dict(), rtol=0, atol=0)
    assert rows(tmp_path / "stopped") == rows(tmp_path / "alone")


def stop():
    raise KeyboardInterrupt


def test_forks_stay_where_they_change_values_and_come_off_where_not(tmp_path):
    x = torch.randn(2, 3, 8, 8)
    for method, kind in (("dfs", Fork), ("dfs-no-reference", GainFork)):
        run = fit(two_decoders(), two_targets(), method, RECIPE, tmp_path / method, quiet=True)
        assert type(run.net.forks[0]) is kind
        again = Run.open(tmp_path / method, net=two_decoders(1), data=two_targets())
        assert all(map(torch.equal, again.net(x), run.net(x)))
        assert again.evaluate() == run.result


def test_shares_are_recorded_and_a_run_with_others_is_another(tmp_path):
    recipe = RECIPE.replace(beta=[0.25, 0.75])
    fit(two_decoders(), two_targets(), "dfs", recipe, tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["beta"] == [0.25, 0.75]
    fit(two_decoders(), two_targets(), "dfs", recipe, tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(UserError, match="beta was"):
        fit(two_decoders(), two_targets(), "dfs", RECIPE, tmp_path / "run", resume=True, quiet=True)


def test_channels_of_a_task_without_targets_get_no_gradient():
    net = two_decoders()
    grads = gradients(net, batch("class"), "dfs")
    assert grads["stages.0.0.weight"][:3].abs().sum() > 0
    assert not grads["stages.0.0.weight"][3:].any()
    assert all(grads[name] is None for name in grads if name.startswith("decoders.1"))


@pytest.mark.parametrize("combiner", ["pcgrad", "cagrad", "mgda"])
def test_behind_one_layer_a_combiner_finds_no_conflict(combiner):
    """Each channel of the trunk's one convolution belongs to one task, so the rows are disjoint."""
    samples, net = batch("class", "box"), two_decoders().double()
    samples = Batch(
        samples.inputs.double(), {k: t.double() if k == "box" else t for k, t in samples.targets.items()}
    )
    alone = gradients(copy.deepcopy(net), samples, "dfs")
    both = gradients(net, samples, f"dfs+{combiner}")
    for name in alone:
        if combiner == "pcgrad" or name.startswith("decoders"):
            torch.testing.assert_close(both[name], alone[name], rtol=1e-10, atol=1e-14)
    for part in (slice(0, 3), slice(3, 6)):  # each weighted by itself at most
        ours, theirs = both["stages.0.0.weight"][part], alone["stages.0.0.weight"][part]
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0) == pytest.approx(1, abs=1e-9)


def test_training_operations_count_what_is_saved():
    """Of two convolutions of 6 to 6 channels on 2x2 maps, each computes half of its input's gradient."""
    joint, dfs = (training_operations(two_decoders(), offramp.method(name)) for name in ("joint", "dfs"))
    assert joint.macs - dfs.macs == 2 * 3 * 6 * 9 * 4
    assert not joint.unknown and not dfs.unknown


def test_nets_without_such_a_fork_are_refused():
    for method in ("dfs", "ge", "dfs-no-reference"):
        with pytest.raises(
            UserError, match=r"'.*' works where a feature forks, .*and TwoHeads has no such fork"
        ):
            fit(two_heads(), two_targets(), method, RECIPE, quiet=True)
