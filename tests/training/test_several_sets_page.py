"""The code of the page on several data sets runs, and its recipe is one."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from offramp import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "several_data_sets.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_code_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python"):
        exec(code, names)
    assert names["run"].result.outputs.keys() == {"depth", "segmentation"}
    assert [each.input_size for each in names["run"].open_data().sets.values()] == [(3, 32, 48), (3, 24, 32)]


def test_the_recipe_is_one():
    (text,) = blocks("yaml")
    recipe = Recipe.from_dict(yaml.safe_load(text))
    assert recipe.of_set("depth").augment == "none"
    assert recipe.of_set("segmentation").size == 128
