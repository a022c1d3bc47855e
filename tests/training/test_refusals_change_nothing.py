"""A call that is refused leaves the net, and every global setting, as it was."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit, method, partition
from offramp.runs import checkpoint

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, schedule="constant", augment="none", checkpoint_every=2)


def snapshot(net):
    """Everything about a net that a user may look at or rely on, and the global settings."""
    tensors = {
        name: (id(t), t.data_ptr(), t.detach().clone(), t.stride(), t.dtype, t.device, t.requires_grad)
        for name, t in [*net.named_parameters(), *net.named_buffers()]
    }
    grads = {name: p.grad if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}
    modules = {
        name: (id(module), module.training, sorted(vars(module))) for name, module in net.named_modules()
    }
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    settings = (
        torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
        torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
    )  # fmt: skip
    draws = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    return {"tensors": tensors, "grads": grads, "modules": modules, "hooks": hooks, "rest": (settings, draws)}


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            assert_same(found[key], expected[key])
    elif isinstance(found, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)
    elif isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tiny_net(), tiny_data(), "joint", RECIPE, tmp_path_factory.mktemp("run") / "run", quiet=True)


def changed(folder, **parts):
    """Change what the last checkpoint of a finished run holds, and let the run go on."""
    path = checkpoint.last(unchecked(folder)) / "state.pt"
    torch.save(torch.load(path, weights_only=True) | parts, path)


def resumed(folder, net, **parts):
    changed(folder, **parts)
    fit(net, tiny_data(), "joint", RECIPE.replace(epochs=3), folder, resume=True, quiet=True)


CASES = {
    "no such device": lambda folder, net: fit(net, tiny_data(), "joint", RECIPE, device="mps", quiet=True),
    "batch too large": lambda folder, net: fit(net, tiny_data(), "joint", RECIPE.replace(batch_size=99)),
    "number of weights": lambda folder, net: fit(
        net, tiny_data(), method("dfs", weights=[1, 2, 3]), RECIPE, quiet=True
    ),
    "class weights": lambda folder, net: fit(
        net, tiny_data(), "dfs", RECIPE.replace(class_weights=[1.0, 2.0]), quiet=True
    ),
    "data of another size": lambda folder, net: fit(
        net, "digits", "dfs", RECIPE.replace(train_limit=16), quiet=True
    ),
    "nothing to train": lambda folder, net: fit(
        net.requires_grad_(False), tiny_data(), "dfs", RECIPE, quiet=True
    ),
    "no folder": lambda folder, net: fit(
        net, tiny_data(), "dfs", RECIPE, folder / "run.json" / "new", quiet=True
    ),
    "old loop": lambda folder, net: resumed(folder, net, loop=[{}]),
    "old numbers": lambda folder, net: resumed(folder, net, rng={}),
    "damaged": lambda folder, net: (
        (checkpoint.last(folder) / "weights.safetensors").write_bytes(b"xx"), resumed(folder, net)
    ),
    "damaged run": lambda folder, net: (
        (folder / "weights.safetensors").write_bytes(b"xx"), Run.open(folder, net)
    ),
    "resumed damaged run": lambda folder, net: (
        (folder / "weights.safetensors").write_bytes(b"xx"),
        fit(net, tiny_data(), "joint", RECIPE, folder, resume=True),
    ),
    "bound": lambda folder, net: method("dfs", weights=[1, 2, 3]).bind(net),
    "bound to epochs": lambda folder, net: method("dr-mgf").bind(net),
}  # fmt: skip


CUT = ("number of weights", "class weights", "bound")  # the net has forks of another partition


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_refusal_changes_nothing(run, tmp_path, case, training):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    net = tiny_net(seed=7)
    if case in CUT:
        partition(net)
    net.train(training)
    net.heads[0][-1].weight.grad = torch.ones_like(net.heads[0][-1].weight)
    if case == "nothing to train":
        net.requires_grad_(False)
    torch.manual_seed(11)
    random.seed(12)
    np.random.seed(13)
    before = snapshot(net)
    forks = [*net.forks]
    with pytest.raises(UserError):
        CASES[case](folder, net)
    assert all(a is b for a, b in zip(net.forks, forks, strict=True))
    assert_same(snapshot(net), before)


def test_a_checkpoint_s_weights_are_gone_again_where_the_longer_run_cannot_be_recorded(
    run, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)

    def full(*arguments):
        raise UserError("cannot write: no space left on device; make room")

    monkeypatch.setattr("offramp.runs.folder.extend", full)
    net = tiny_net(seed=7)
    before = snapshot(net)
    with pytest.raises(UserError, match="make room"):
        resumed(folder, net)
    assert_same(snapshot(net), before)


def test_what_came_before_the_first_step_and_no_refusal_stays(run, tmp_path):
    """A training that fails later keeps what it has trained."""
    net = tiny_net()
    with pytest.raises(UserError, match="not finite"):
        fit(net, tiny_data(), "joint", RECIPE.replace(lr=1e30), quiet=True)
    assert not torch.equal(net.heads[0][-1].weight, tiny_net().heads[0][-1].weight)
