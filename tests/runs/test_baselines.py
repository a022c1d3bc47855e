"""Runs that another is compared with: on its data, or on one of its sets."""

from __future__ import annotations

import pytest
from tiny_dense import dense_data, dense_net

from offramp import Recipe, UserError, fit
from offramp.runs.baselines import read_baselines
from offramp.runs.record import read_record

RECIPE = Recipe(epochs=1, batch_size=4, lr=0.05, augment="none", val_fraction=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline") / "run"
    fit(dense_net(), dense_data(), "joint", RECIPE, folder, quiet=True)
    return folder


def test_a_baseline_is_on_the_run_s_data_or_one_of_its_sets(folder):
    record = read_record(folder)
    (result,) = read_baselines([folder], record)
    assert result.delta_m(result) == 0
    several = {**record, "data": {"name": "near=maps far=others", "sets": {"near": record["data"]}}}
    assert read_baselines([folder], several) == [result]
    other = {**record, "data": {**record["data"], "name": "others"}}
    with pytest.raises(UserError, match="is on maps, and the run on others; give a baseline on"):
        read_baselines([folder], other)


def test_another_recipe_is_said(folder, capsys):
    record = read_record(folder)
    same = record["recipe"] | {"seed": 5, "last_epochs": 0, "options": {"c": 0.4}}
    read_baselines([folder], record | {"recipe": same})
    assert not capsys.readouterr().err
    read_baselines([folder], record | {"recipe": same | {"lr": 1.0, "epochs": 9}})
    assert "was trained by another recipe: epochs, lr differ" in capsys.readouterr().err
