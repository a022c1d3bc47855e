"""Records of every format are read as records of today; an option is stored once."""

import json
import re

import pytest
from tiny_runs import tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.methods import method
from offramp.reports.runs import read_run
from offramp.runs.formats import FORMAT
from offramp.runs.record import read_record

RECIPE = Recipe(epochs=1, batch_size=8, options={"beta": 0.75})


def train(folder, recipe=RECIPE, name="dfs", **rest):
    return fit(tiny_net(), tiny_data(), name, recipe, folder, quiet=True, **rest)


@pytest.fixture
def run(tmp_path):
    return train(tmp_path / "run")


def stored(folder):
    return json.loads((folder / "run.json").read_text())


def edit(folder, **changes):
    (unchecked(folder) / "run.json").write_text(json.dumps(stored(folder) | changes))


def make_first_format(folder, options):
    """As it was written before formats had numbers."""
    record = stored(folder)
    record["recipe"]["options"] = options
    (unchecked(folder) / "run.json").write_text(
        json.dumps({k: v for k, v in record.items() if k not in ("format", "frozen", "eval_mode")})
    )


def test_an_option_is_stored_once(run):
    record = stored(run.folder)
    assert record["format"] == FORMAT
    assert record["options"]["beta"] == 0.75
    assert "options" not in record["recipe"]


def test_the_record_of_a_run_is_what_its_folder_gives_back(run):
    assert read_record(run.folder) == run.record
    assert run.recipe.options == {"beta": 0.75}  # what is not at its default
    assert Run.open(run.folder, tiny_net()).recipe == run.recipe
    assert read_run(run.folder).recipe["options"] == {"beta": 0.75}


def test_the_first_format_means_what_it_meant(run):
    today = read_record(run.folder)
    make_first_format(run.folder, {"beta": 0.75})
    old = read_record(run.folder)
    assert old == {key: value for key, value in today.items() if key not in ("frozen", "eval_mode")}
    assert read_run(run.folder).options == today["options"]
    assert Run.open(run.folder, tiny_net()).result == run.result
    assert train(run.folder, resume=True).result == run.result
    assert train(run.folder, None, None, resume=True).result == run.result
    with pytest.raises(UserError, match=r"options: beta was 0.75, is 0.5"):
        train(run.folder, RECIPE.replace(options={}), resume=True)


def test_a_run_of_the_first_format_is_extended_in_todays(tmp_path):
    constant = RECIPE.replace(schedule="constant")
    train(tmp_path / "run", constant)
    make_first_format(tmp_path / "run", {"beta": 0.75})
    extended = train(tmp_path / "run", constant.replace(epochs=2), resume=True)
    straight = train(tmp_path / "straight", constant.replace(epochs=2))
    assert extended.result == straight.result
    assert stored(tmp_path / "run") == stored(tmp_path / "straight")
    assert "format" not in stored(tmp_path / "run" / "epochs-1")


def test_a_method_and_the_recipe_of_a_run_train_another_one(run):
    again = fit(tiny_net(), tiny_data(), run.method.name, run.recipe, quiet=True)
    assert again.result == run.result
    plain = train(run.folder.parent / "plain", RECIPE.replace(options={}))
    assert fit(tiny_net(), tiny_data(), plain.method, plain.recipe, quiet=True).result == plain.result


def test_options_that_a_method_brings_are_those_of_its_record(run):
    own = train(run.folder.parent / "own", RECIPE.replace(options={}), method("dfs", {"beta": 0.75}))
    assert own.record == run.record


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frozen": 3}, "'frozen' in its run.json is 3"),
        ({"eval_mode": None}, "'eval_mode' in its run.json is None"),
        ({"frozen": ["a", 1]}, r"'frozen[1]' in its run.json is 1"),
    ],
)
def test_parts_that_are_no_names_are_refused(run, changes, says):
    edit(run.folder, **changes)
    with pytest.raises(UserError, match=re.escape(says)):
        read_record(run.folder)


@pytest.mark.parametrize("number", [4, 0, "2", None, [2], 1.5, [7] * 9999])
def test_a_format_that_is_not_known_is_refused(run, number):
    edit(run.folder, format=number)
    for read in (read_record, read_run, Run.open):
        with pytest.raises(
            UserError, match=r"run\.json is of format .{1,30}, and this version of offramp reads"
        ):
            read(run.folder)
