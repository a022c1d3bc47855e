"""A net whose operations cannot be counted trains to the end like any other, and its reports say so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_runs import CLASSES, tiny_data
from torch import nn

from offramp import Recipe, Run, UserError, fit
from offramp.nets import MultiExitNet
from offramp.reports import compare, plot

RECIPE = Recipe(epochs=1, batch_size=8, augment="none")


class Filter(nn.Module):
    """A fixed filter whose products run in numpy."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.eye(4))

    def forward(self, x):
        self.seen = np.einsum("oc,nchw->nohw", self.weight.numpy(), x.detach().numpy())
        return torch.fft.fft2(x).real


class Position(nn.Module):
    """Adds a learned table and multiplies nothing."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 4, 8, 8))

    def forward(self, x):
        return x + self.table


def net_with(part):
    torch.manual_seed(0)
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)) for _ in range(2)]
    return MultiExitNet([nn.Conv2d(3, 4, 3, 1, 1), part], heads, input_size=(3, 8, 8))


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unknown") / "run"
    return fit(net_with(Filter()), tiny_data(), "joint", RECIPE, folder, quiet=True)


def test_a_net_that_adds_a_matrix_finishes_and_opens(tmp_path):
    run = fit(net_with(Position()), tiny_data(), "joint", RECIPE, tmp_path / "run", quiet=True)
    assert [e["flops"] for e in run.result["exits"]] == [64 * 4 * 27 + 12, 64 * 4 * 27 + 24]
    assert Run.open(tmp_path / "run", net_with(Position())).result == run.result


def test_unknown_operations_are_null_in_the_result(unknown):
    assert json.loads((unknown.folder / "result.json").read_text())["exits"][1]["flops"] is None
    assert [e["flops"] for e in unknown.result["exits"]] == [64 * 4 * 27 + 12, None]
    opened = Run.open(unknown.folder, net_with(Filter()))
    assert opened.result == unknown.result
    assert opened.evaluate(tiny_data())["exits"] == unknown.result["exits"]


def test_unknown_operations_are_said_at_the_start(capsys):
    fit(net_with(Filter()), tiny_data(), "joint", RECIPE)
    first = capsys.readouterr().err.split("\n")[0]
    assert first.startswith("FLOPs of some exits are unknown: stages.1 (Filter): ")
    assert "_fft" in first


def test_tables_and_pictures_do_without(unknown, tmp_path):
    assert unknown.table().split("\n")[3].split()[:3] == ["2", "142", "unknown"]
    comparison = compare([unknown.folder])
    assert "unknown" in comparison.table()
    pytest.importorskip("matplotlib")
    plot(comparison, tmp_path / "picture.svg")
    assert "FLOPs are unknown" in (tmp_path / "picture.svg").read_text()


def test_a_method_that_needs_them_refuses_at_the_start(tmp_path):
    with pytest.raises(UserError, match=r"sdn-ramp.*not all are known: stages\.1 \(Filter\)"):
        fit(net_with(Filter()), tiny_data(), "sdn-ramp", RECIPE, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_weights_are_there_even_if_the_test_set_cannot_be_read(tmp_path):
    data = tiny_data()

    def unreadable():
        raise UserError("no test set here")

    data._load_test = unreadable
    net = net_with(Position())
    with pytest.raises(UserError, match="no test set"):
        fit(net, data, "joint", RECIPE, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    again = fit(net_with(Position()), tiny_data(), "joint", RECIPE, tmp_path / "run", resume=True, quiet=True)
    assert torch.equal(again.net.stages[0].weight, net.stages[0].weight)
