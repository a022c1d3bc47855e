"""Every cell of every published table trains for two steps, on the narrowest networks and a few images.

Cells of several tables that are the same network and method are trained once, but for the first of a table,
whose recipe is tried, too.
"""

import math

import pytest
import torch

import offramp
from offramp.nets.text import build
from offramp.papers.catalogue import TABLES
from offramp.papers.published import Table
from offramp.reproduce import EXPERIMENTS, plan
from offramp.runs.sets import open_set

STAND_INS = {
    "CIFAR-10": "digits",
    "CIFAR-100": "digits",
    "ImageNet": "digits",
    "NYUv2": "rooms:images=8,test=2,height=32,width=32",
}
SMALL = {
    "epochs": 1, "schedule": "constant", "milestones": (), "batch_size": 4, "train_limit": 8, "test_limit": 2,
    "val_fraction": 0, "last_epochs": 0, "options": {},
}  # fmt: skip
TRAINED = set()


def train(entry, source):
    """Two steps of an entry of a sweep, under its recipe but for the size."""
    recipe = entry.recipe.replace(**SMALL, size=entry.recipe.size and 160)  # ImageNet's: the least that fits
    data = open_set(source, recipe)
    torch.manual_seed(0)
    net = build(entry.net, input_size=data.input_size, targets=data.targets)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run = offramp.fit(net, data, entry.method, recipe, quiet=True)
    assert all(math.isfinite(score) for score in run.result.scores.values())
    if not entry.method.separate:
        after = run.net.state_dict()
        assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_cell_of_a_table_trains_for_two_steps(name):
    table = TABLES[name]
    planned = plan(name, stand_in=f"{table.data}={STAND_INS[table.data]}", scale="1/100000")
    rows = table.top1 if isinstance(table, Table) else table.rows
    assert sorted(row.label for row in (*planned.rows, *planned.untrained)) == sorted(rows)
    assert len(planned.sweep.entries) == len(planned.rows)
    first = planned.sweep.entries[0]
    for entry in planned.sweep.entries:
        cell = (entry.net, entry.method.name, repr(entry.method.options))
        if entry is first or cell not in TRAINED:
            train(entry, planned.sweep.data)
        TRAINED.add(cell)


def test_rows_that_cannot_be_trained_say_why():
    untrained = {
        (experiment.name, row.label)
        for experiment in EXPERIMENTS.values()
        for row in experiment.rows
        if row.untrained
    }
    assert not untrained
