"""A run goes on with the same parts frozen, and the same in evaluation mode, or not at all."""

import json

import pytest
import torch
from tiny_runs import STEPS, Tripwire, tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, UserError, fit
from offramp.runs.left_alone import left_alone
from offramp.runs.record import read_record

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, schedule="constant")


def net_with(frozen=(), in_eval=(), seed=0):
    net = tiny_net(seed)
    for name in frozen:
        net.get_submodule(name).requires_grad_(False)
    for name in in_eval:
        net.get_submodule(name).eval()
    return net


def stopped(folder, net):
    """A run that ends in an error in its second epoch."""
    data = tiny_data(split=Tripwire)
    data.train.at = STEPS + 3
    data.train.act = lambda: (_ for _ in ()).throw(KeyError("stop"))
    with pytest.raises(KeyError):
        fit(net, data, "joint", RECIPE, folder, quiet=True)


def resume(folder, net, **more):
    return fit(net, tiny_data(), "joint", RECIPE.replace(**more), folder, resume=True, quiet=True)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        ({"frozen": ["stages.0"]}, {"frozen": ["stages.1"]}, "frozen: they were ['stages.0'], are ['st"),
        ({"frozen": ["stages.0"]}, {}, "frozen: they were ['stages.0'], are []; freeze these parts"),
        ({}, {"frozen": ["stages.0.1"]}, "frozen: they were [], are ['stages.0.1']"),
        ({"in_eval": ["stages.0.1"]}, {}, "eval mode: they were ['stages.0.1'], are []"),
        ({}, {"in_eval": ["stages.0.1"]}, "eval mode: they were [], are ['stages.0.1']"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_other_parts_are_refused(tmp_path, first, then, says, finished):
    folder = tmp_path / "run"
    if finished:
        done = fit(net_with(**first), tiny_data(), "joint", RECIPE, folder, quiet=True)
        assert resume(folder, net_with(**then)).result == done.result  # nothing is trained
    else:
        stopped(folder, net_with(**first))
    before = files(folder)
    with pytest.raises(UserError) as refused:
        resume(folder, net_with(**then), epochs=3 if finished else 2)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert files(folder) == before


def test_the_same_parts_go_on_to_the_same_bits(tmp_path):
    parts = {"frozen": ["stages.0"], "in_eval": ["stages.0.1"]}
    alone = fit(net_with(**parts), tiny_data(), "joint", RECIPE, tmp_path / "alone", quiet=True)
    stopped(tmp_path / "run", net_with(**parts))
    record = read_record(tmp_path / "run")
    assert (record["frozen"], record["eval_mode"]) == (["stages.0"], ["stages.0.1"])
    again = resume(tmp_path / "run", net_with(**parts, seed=9))
    assert again.result == alone.result
    for name, tensor in again.net.state_dict().items():
        assert torch.equal(tensor, alone.net.state_dict()[name]), name


@pytest.mark.parametrize(
    "parts", [{"frozen": ["stages.0"]}, {"frozen": ["stages.0"], "in_eval": ["stages.0"]}]
)
def test_a_net_that_was_trained_is_trained_further_as_it_was(tmp_path, parts):
    """After fit all of it is in evaluation mode, which says nothing of the frozen part's own."""
    net = net_with(**parts)
    fit(net, tiny_data(), "joint", RECIPE, tmp_path / "run", quiet=True)
    extended = resume(tmp_path / "run", net, epochs=3)
    straight = fit(net_with(**parts), tiny_data(), "joint", RECIPE.replace(epochs=3), quiet=True)
    assert extended.result == straight.result
    assert torch.equal(net.stages[0][1].running_mean, straight.net.stages[0][1].running_mean)


def test_a_record_that_does_not_tell_refuses_what_the_optimiser_cannot_take(tmp_path):
    stopped(tmp_path / "run", net_with(["stages.0"]))
    path = unchecked(tmp_path / "run") / "run.json"
    record = json.loads(path.read_text())
    for key in ("format", "frozen", "eval_mode"):
        del record[key]
    path.write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"another training than this one .*; freeze the same parts of the net"
    ):
        resume(tmp_path / "run", net_with())
    with pytest.raises(UserError, match=r"another training than this one .*momentum_buffer of"):
        resume(tmp_path / "run", net_with(["stages.1"]))  # as many parameters, of other shapes
    resume(tmp_path / "run", net_with(["stages.0"]))


def test_what_is_left_alone_is_named_by_its_outermost_modules():
    net = tiny_net()
    net.stages[0][0].bias.requires_grad_(False)
    net.heads[1].requires_grad_(False)
    net.stages[1][1].eval()
    assert left_alone(net) == {"frozen": ["stages.0.0.bias", "heads.1"], "eval_mode": ["stages.1.1"]}
    net.eval()
    assert left_alone(net)["eval_mode"] == ["heads.1"]  # the rest is trained
    assert not any(module.training for module in net.modules())
