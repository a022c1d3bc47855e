"""The experiments against the published tables: nothing is missing, and every part exists."""

import pytest

from offramp import Recipe
from offramp.methods import method
from offramp.nets.text import check
from offramp.papers.catalogue import TABLES
from offramp.papers.published import Table
from offramp.reproduce import EXPERIMENTS, SETS

EACH = [*EXPERIMENTS.values()]


def test_every_published_table_is_an_experiment_with_all_its_rows():
    for name, table in TABLES.items():
        rows = table.top1 if isinstance(table, Table) else table.rows
        assert [row.label for row in EXPERIMENTS[name].rows] == [*rows]
        assert EXPERIMENTS[name].data == table.data
        assert EXPERIMENTS[name].source == table.source


@pytest.mark.parametrize("experiment", EACH, ids=lambda each: each.name)
def test_data_nets_recipe_and_methods_of_an_experiment_exist(experiment):
    assert experiment.data in SETS
    for net in experiment.nets:
        check(net)
    recipe = Recipe.load(experiment.recipe)
    for row in experiment.rows:
        if row.untrained:
            continue
        plain = method(row.trained_as)
        options = {key: value for key, value in row.settings.items() if plain.named(key)}
        plain.with_options(options)
        recipe.replace(**{key: value for key, value in row.settings.items() if key not in options})


def test_a_baseline_is_a_row():
    for experiment in EACH:
        if experiment.baseline:
            assert experiment.baseline in [row.label for row in experiment.rows]
