"""The memory format that a run takes by itself, records, and goes on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from torch import nn

from offramp import Recipe, Run, UserError, fit
from offramp.nets import MultiExitNet, vgg7
from offramp.reports.runs import read_run
from offramp.runs.record import read_record
from offramp.training._layout import with_layout

# Written by the commit 7d358bf, the last one whose default was False: `dfs` on vgg7 of width 2 and digits,
# stopped by a signal after the first of two epochs' steps.
OLD_RUN = Path(__file__).parents[1] / "runs" / "old_run"
ONE = Recipe(epochs=1, batch_size=8)


class View(nn.Module):
    def forward(self, x):
        return x.view(len(x), -1)


def net_of(stage: nn.Module, flat: nn.Module, width: int = 4 * 8 * 8) -> MultiExitNet:
    heads = [nn.Sequential(flat, nn.Linear(width, 3)) for _ in range(2)]
    return MultiExitNet([stage, nn.Identity()], heads, input_size=(3, 8, 8))


NETS = {
    "overlapping": (lambda: net_of(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten()), True),
    "one axis overlaps": (lambda: net_of(nn.Conv2d(3, 4, (1, 3), padding=(0, 1)), nn.Flatten()), True),
    "patches": (lambda: net_of(nn.Conv2d(3, 4, 2, 2), nn.Flatten(), 64), False),
    "pointwise": (lambda: net_of(nn.Conv2d(3, 4, 1), nn.Flatten()), False),
    "linear": (lambda: net_of(nn.Flatten(), nn.Identity(), 192), False),
    "a view of a feature": (lambda: net_of(nn.Conv2d(3, 4, 3, padding=1), View()), False),
}


@pytest.mark.parametrize("build, expected", NETS.values(), ids=NETS)
def test_the_net_decides(build, expected, tmp_path):
    net = build()
    fit(net, tiny_data(), "joint", ONE, tmp_path / "run", quiet=True)
    assert read_record(tmp_path / "run")["recipe"]["channels_last"] is expected
    first = next(net.parameters())
    assert first.is_contiguous() is not (expected and first.shape[1] > 1 and first[0, 0].numel() > 1)


def test_the_recipe_decides_before_the_net():
    for said in (True, False):
        assert with_layout(ONE.replace(channels_last=said), tiny_net()).channels_last is said
    with pytest.raises(UserError, match="channels_last is 1, must be true or false, or null"):
        Recipe(channels_last=1)


def test_tensors_of_five_dimensions_stay_as_they_are():
    net = tiny_net()
    net.extra = nn.Conv3d(1, 1, 3)
    assert with_layout(ONE, net).channels_last is False
    with pytest.raises(UserError, match=r"with this net: extra.weight has 5 dimensions; leave"):
        with_layout(ONE.replace(channels_last=True), net)


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path):
    net, folder = NETS["a view of a feature"][0](), tmp_path / "run"
    with pytest.raises(UserError, match=r"channels_last does not work with this net: view size .*; leave"):
        fit(net, tiny_data(), "joint", ONE.replace(channels_last=True), folder, quiet=True)
    assert not folder.exists()
    fit(net, tiny_data(), "joint", ONE, folder, quiet=True)  # the remedy helps


def test_looking_leaves_the_net_as_it_was():
    net = tiny_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with_layout(ONE, net)
    assert net.training
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("started, other", [(None, False), (False, True)])
def test_a_run_goes_on_as_it_began(started, other, tmp_path):
    folder = tmp_path / "run"
    done = fit(tiny_net(), tiny_data(), "dfs", ONE.replace(channels_last=started), folder, quiet=True)
    again = fit(tiny_net(), tiny_data(), "dfs", ONE, folder, resume=True, quiet=True)
    assert again.result == done.result
    with pytest.raises(UserError, match=f"another recipe: channels_last was {not other}, is {other}"):
        fit(tiny_net(), tiny_data(), "dfs", ONE.replace(channels_last=other), folder, resume=True, quiet=True)


@pytest.mark.parametrize("lacks", [(), ("channels_last",)], ids=["as written", "lacks the setting"])
def test_a_folder_of_the_commit_before_goes_on_in_its_layout(lacks, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    record = json.loads((folder / "run.json").read_text())
    recorded = {key: value for key, value in record["recipe"].items() if key not in lacks}
    (folder / "run.json").write_text(json.dumps(record | {"recipe": recorded}))
    recipe = Recipe.from_dict({key: v for key, v in recorded.items() if key != "channels_last"})
    assert recipe.channels_last is None

    torch.manual_seed(0)
    net = vgg7(num_classes=10, width=2)
    run = fit(net, "digits", "dfs", recipe, folder, resume=True, quiet=True)
    assert not (folder / "checkpoint" / "epoch-00000-step-0000002").exists()
    assert net.stages[1][0].weight.is_contiguous()
    assert read_record(folder)["recipe"]["channels_last"] is False
    assert read_run(folder).recipe["channels_last"] is False
    opened = Run.open(folder)
    assert opened.recipe.channels_last is False
    assert opened.result == run.result
