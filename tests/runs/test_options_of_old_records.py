"""Run folders from before a method or a network got an option, or another default of one."""

import json

import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.nets import create
from offramp.reports.runs import read_run
from offramp.runs.record import read_record

RECIPE = Recipe(epochs=1, batch_size=8)


def forget(folder, option):
    """The record as if the option had not been there."""
    record = json.loads((folder / "run.json").read_text())
    del record["options"][option]
    (unchecked(folder) / "run.json").write_text(json.dumps(record))


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


def test_a_name_that_two_parts_have_was_for_both(tmp_path):
    """Before options had qualified names, dfs+ge had one option scales, which went to both forks."""
    folder, recipe = tmp_path / "run", RECIPE.replace(**{"dfs.scales": "all", "ge.scales": "all"})
    done = fit(tiny_net(), tiny_data(), "dfs+ge", recipe, folder, quiet=True)
    record = json.loads((folder / "run.json").read_text())
    assert [record["options"].pop(key) for key in ("dfs.scales", "ge.scales")] == ["all", "all"]
    record["options"]["scales"] = "all"
    record["recipe"]["options"] = {"scales": "all"}
    del record["format"]  # there was none yet
    (unchecked(folder) / "run.json").write_text(json.dumps(record))
    assert read_record(folder)["options"]["ge.scales"] == "all"
    assert read_run(folder).options == done.record["options"]
    assert (
        fit(tiny_net(), tiny_data(), "dfs+ge", recipe, folder, resume=True, quiet=True).result == done.result
    )
    assert fit(tiny_net(), tiny_data(), out=folder, resume=True, quiet=True).result == done.result
    with pytest.raises(UserError, match=r"another options: dfs\.scales was 'all', is 'coarsest'"):
        fit(tiny_net(), tiny_data(), "dfs+ge", RECIPE, folder, resume=True, quiet=True)


def test_a_run_of_the_published_fusion_stays_one(tmp_path):
    """Records hold every option's value, so that dr-mgf with another default is another run."""
    folder = tmp_path / "run"
    old = RECIPE.replace(fusion_lr=0.1)
    fit(tiny_net(), tiny_data(), "dr-mgf", old, folder, quiet=True)
    assert read_record(folder)["options"]["fusion_lr"] == 0.1
    with pytest.raises(UserError, match=r"another options: fusion_lr was 0.1, is 0.0001; give what it was"):
        fit(tiny_net(), tiny_data(), "dr-mgf", RECIPE, folder, resume=True, quiet=True)


def test_a_resnet_of_a_record_that_does_not_say_what_its_heads_read_reads_the_relu(tmp_path):
    """Before ``head_reads`` there was only that; the weights have the same names."""
    folder = tmp_path / "run"
    recipe = Recipe(epochs=1, batch_size=20, train_limit=40, test_limit=20)
    torch.manual_seed(0)
    net = create("resnet_sdn", num_classes=10, width=1, head_reads="relu")
    fit(net, "digits", recipe=recipe, out=folder, quiet=True)
    record = json.loads((folder / "run.json").read_text())
    del record["net"]["head_reads"]
    (unchecked(folder) / "run.json").write_text(json.dumps(record))

    x = torch.randn(2, *net.input_size)
    assert all(map(torch.equal, Run.open(folder).net(x), net(x)))
    assert read_run(folder).net == "resnet_sdn:width=1,head_reads=relu"
    again = create("resnet_sdn", num_classes=10, width=1)
    with pytest.raises(UserError, match="another net: head_reads was 'relu', is 'sum'"):
        fit(again, "digits", recipe=recipe, out=folder, resume=True, quiet=True)
    again = create("resnet_sdn", num_classes=10, width=1, head_reads="relu")
    fit(again, "digits", recipe=recipe, out=folder, resume=True, quiet=True)
