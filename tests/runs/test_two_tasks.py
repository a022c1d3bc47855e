"""A net of two tasks, from its losses to the tables: nothing on the way takes outputs for exits."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch
from plain_records import plain_record
from torch import nn

import offramp
from offramp.counting.costs import Cost, ExitCost
from offramp.data import Batch
from offramp.nets import owners
from offramp.reports import compare, result_table
from offramp.runs.result import Result
from offramp.tasks import Boxes, Classification
from offramp.tasks.evaluation import evaluate

BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.25, 0.5, 0.75, 1.0]])


class TwoHeads(nn.Module):
    """A trunk with a head that classifies and one that says where."""

    outputs: ClassVar = {"class": Classification(), "box": Boxes()}
    input_size = (6,)

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(16, 3), nn.Linear(16, 4)])

    def forward(self, x):
        feature = self.trunk(x)
        return [head(feature) for head in self.heads]

    def owners(self):
        return owners(self, torch.randn(2, 6, generator=torch.Generator().manual_seed(0)))


def toy(seed, samples=48):
    """Three classes, each with its place and its box; every third sample lacks its box."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 3
    centres = 3 * torch.eye(3).repeat(1, 2)
    inputs = centres[labels] + 0.3 * torch.randn(samples, 6, generator=generator)
    boxes = BOXES[labels].clone()
    boxes[labels == 2] = float("nan")
    return Batch(inputs, {"label": labels, "box": boxes})


def trained(method, seed):
    torch.manual_seed(seed)
    net = TwoHeads()
    bound = offramp.method(method).bind(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    batch = toy(seed)
    for _ in range(100):
        optimizer.zero_grad()
        losses = bound.backward(batch.inputs, batch.targets)
        optimizer.step()
    assert len(losses) == 2
    cost = Cost("macs", 0, (ExitCost(163, 144), ExitCost(180, 160)))
    record = {"net": {"net": "two heads"}, "method": method, "data": {"name": "toy"}, "seed": seed}
    parts = toy(seed + 100).split(5)
    return Result.of(net.outputs, evaluate(net, net.outputs, parts), cost, record)


@pytest.fixture(scope="module")
def results():
    return [trained(method, seed) for method in ("joint", "pcgrad") for seed in range(3)]


def test_both_tasks_are_learned(results):
    for result in results:
        assert result.outputs["class"].value == 100
        assert result.outputs["box"].value > 50  # one box for all would have a third


def test_tables_speak_of_the_outputs(results, tmp_path):
    lines = [line.split() for line in result_table(results[0]).splitlines()]
    assert lines[0] == ["output", "metric", "value", "params", "FLOPs"]
    assert [line[:3] for line in lines[2:]] == [
        ["class", "top-1", "%"],
        ["top-5", "%", lines[3][2]],
        ["box", "IoU", "%"],
    ]

    folders = []
    for result in results:
        folder = tmp_path / f"{result.method}-{result.seed}"
        folder.mkdir()
        recipe = {"epochs": 1, "lr": 0.1, "milestones": []}
        about = {"method": result.method, "seed": result.seed, "recipe": recipe}
        run = plain_record({"net": "two heads"}, result.data, **about)
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "result.json").write_text(json.dumps(result.to_json()))
        folders.append(folder)
    comparison = compare(folders)
    assert comparison.columns == ["class top-1 %", "box IoU %"]
    (difference,) = comparison.to_dict()["differences"]
    pairs = zip(results[3:], results[:3], strict=True)
    assert difference["delta_m"]["mean"] == pytest.approx(sum(a.delta_m(b) for a, b in pairs) / 3)
    assert "of delta-m, which is a loss, - is better" in " ".join(comparison.table().split())
