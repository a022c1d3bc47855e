"""An extension that is refused leaves a finished run as it was, byte for byte."""

import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.runs import checkpoint

RECIPE = Recipe(epochs=1, batch_size=8, lr=0.05, schedule="constant", average=0.9)


def train(folder, recipe=RECIPE, net=None):
    return fit(net or tiny_net(), tiny_data(), "dfs", recipe, folder, resume=True, quiet=True)


def content(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def cut_short(folder):
    (checkpoint.last(folder) / "state.pt").write_bytes(b"xx")


def without_weights(folder):
    (checkpoint.last(folder) / "weights.safetensors").unlink()


def empty_newer_one(folder):
    (folder / "checkpoint" / "epoch-00009-step-0000000").mkdir()


def changed(**parts):
    def damage(folder):
        path = checkpoint.last(folder) / "state.pt"
        state = torch.load(path, weights_only=True)
        torch.save({key: value for key, value in (state | parts).items() if value != "away"}, path)

    return damage


def other_optimiser(folder):
    path = checkpoint.last(folder) / "state.pt"
    state = torch.load(path, weights_only=True)
    del state["loop"][0]["optimizer"]["param_groups"][0]["params"][0]
    torch.save(state, path)


def no_state(folder):
    torch.save([1, 2], checkpoint.last(folder) / "state.pt")


DAMAGES = {
    "cut short": (cut_short, "state.pt .*; restore it from a copy"),
    "without weights": (without_weights, r"cannot read .*weights\.safetensors"),
    "an empty newer one": (empty_newer_one, "cannot read .*state.pt"),
    "without random state": (changed(rng="away"), "of another training than this one .*'rng'"),
    "without an average": (changed(average="away"), "of another training than this one .*'average'"),
    "with another average": (changed(average={"x": torch.ones(1)}), "of another training than this one"),
    "another optimiser": (other_optimiser, "of another training than this one .*freeze the same parts"),
    "no state at all": (no_state, "holds no state of a training"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_run_with_a_damaged_checkpoint_stays_finished(tmp_path, damage):
    spoil, says = DAMAGES[damage]
    finished = train(tmp_path / "run")
    spoil(unchecked(tmp_path / "run"))
    before = content(tmp_path / "run")
    with pytest.raises(UserError, match=says) as refused:
        train(tmp_path / "run", RECIPE.replace(epochs=2))
    assert "\n" not in str(refused.value)
    assert content(tmp_path / "run") == before
    assert Run.open(tmp_path / "run", tiny_net()).result == finished.result
    assert train(tmp_path / "run").result == finished.result
