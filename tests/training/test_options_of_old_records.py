"""Run folders from before a method got an option, or another default of one."""

import json

import pytest
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, UserError, fit
from offramp.training.record import read_record

RECIPE = Recipe(epochs=1, batch_size=8)


def forget(folder, option):
    """The record as if the option had not been there."""
    record = json.loads((folder / "run.json").read_text())
    del record["options"][option]
    (folder / "run.json").write_text(json.dumps(record))


def test_an_option_that_a_record_lacks_is_at_its_default(tmp_path):
    """CAGrad's scaling is such an option: before it there was only the sum."""
    folder = tmp_path / "run"
    done = fit(tiny_net(), tiny_data(), "cagrad", RECIPE, folder, quiet=True)
    forget(folder, "scaling")
    again = fit(tiny_net(), tiny_data(), "cagrad", RECIPE, folder, resume=True, quiet=True)
    assert again.result == done.result
    native = RECIPE.replace(scaling="native")
    with pytest.raises(UserError, match="another options: scaling was 'sum', is 'native'"):
        fit(tiny_net(), tiny_data(), "cagrad", native, folder, resume=True, quiet=True)


def test_a_run_of_the_published_fusion_stays_one(tmp_path):
    """Records hold every option's value, so that dr-mgf with another default is another run."""
    folder = tmp_path / "run"
    old = RECIPE.replace(fusion_lr=0.1)
    fit(tiny_net(), tiny_data(), "dr-mgf", old, folder, quiet=True)
    assert read_record(folder)["options"]["fusion_lr"] == 0.1
    with pytest.raises(UserError, match=r"another options: fusion_lr was 0.1, is 0.0001; give what it was"):
        fit(tiny_net(), tiny_data(), "dr-mgf", RECIPE, folder, resume=True, quiet=True)
