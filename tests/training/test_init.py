"""A training starts from given weights, notes them, and takes nothing from them again when it is resumed."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import STEPS, Tripwire, tiny_data, tiny_net

from offramp import Recipe, Run, UserError, fit, load_pretrained

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, schedule="constant", augment="none")


def train(folder, seed=2, classes=3, **given):
    given.setdefault("data", tiny_data())
    return fit(tiny_net(seed=seed), given.pop("data"), "dfs", RECIPE, folder, quiet=True, **given)


def dying_data(step):
    data = tiny_data(split=Tripwire)
    data.train.at = step
    data.train.act = lambda: (_ for _ in ()).throw(KeyError("stop"))
    return data


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """A run that started from the weights of the first."""
    folder = tmp_path_factory.mktemp("second") / "run"
    train(folder, init=first)
    return folder


def record(folder):
    return json.loads((folder / "run.json").read_text())


def assert_same_weights(one, other):
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def test_it_trains_as_a_net_that_was_loaded_before(first, second, tmp_path):
    net = tiny_net(seed=2)
    load_pretrained(net, first)
    fit(net, tiny_data(), "dfs", RECIPE, tmp_path / "run", quiet=True)
    assert_same_weights(tmp_path / "run", second)
    assert "init" not in record(tmp_path / "run")


def test_the_record_says_where_the_weights_are_from_and_what_was_left_out(first, second, tmp_path):
    digest = hashlib.sha256((first / "weights.safetensors").read_bytes()).hexdigest()
    told = {"source": str(first), "digest": digest, "as_initialised": [], "unused": []}
    assert record(second)["init"] == Run.open(second, tiny_net()).record["init"] == told
    net = tiny_net(classes=5)
    torch.save({**net.state_dict(), "more": torch.ones(1)}, tmp_path / "five.pt")
    train(tmp_path / "run", init=str(tmp_path / "five.pt"))
    told = record(tmp_path / "run")["init"]
    assert (told["as_initialised"], told["unused"]) == (["heads.0", "heads.1"], ["more"])


def test_what_was_left_out_is_said_once(first, tmp_path, capsys):
    state = {name: value for name, value in tiny_net().state_dict().items() if "heads.0" not in name}
    save_file(state, tmp_path / "w.safetensors")
    fit(tiny_net(), tiny_data(), "dfs", RECIPE, init=tmp_path / "w.safetensors")
    said = capsys.readouterr().err
    assert said.count(f"as initialised, since {tmp_path / 'w.safetensors'} has none that fit: heads.0\n") == 1


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("step", [0, STEPS + 3])
def test_a_resume_goes_on_to_the_same_bits(first, second, tmp_path, given, step):
    source = shutil.copytree(first, tmp_path / "source")
    with pytest.raises(KeyError):
        train(tmp_path / "run", init=source, data=dying_data(step))
    if not given:
        shutil.rmtree(source)
    train(tmp_path / "run", seed=9, resume=True, init=source if given else None)
    assert_same_weights(tmp_path / "run", second)
    assert record(tmp_path / "run")["init"]["source"] == str(source)


def test_a_run_that_kept_no_weights_takes_them_again(first, second, tmp_path):
    source = shutil.copytree(first, tmp_path / "source")
    with pytest.raises(KeyError):
        train(tmp_path / "run", init=source, data=dying_data(0))
    shutil.rmtree(tmp_path / "run" / "checkpoint")  # as where it was killed before it wrote one
    moved = source.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"there is no .*source"):
        train(tmp_path / "run", resume=True)
    train(tmp_path / "run", resume=True, init=moved)
    assert_same_weights(tmp_path / "run", second)
    assert record(tmp_path / "run")["init"]["source"] == str(source)


def test_another_init_than_the_run_began_with_is_refused(first, second, tmp_path):
    save_file(tiny_net(seed=5).state_dict(), tmp_path / "other.safetensors")
    for resumed, says in ((second, "began with other weights"), (first, "began with the net's own weights")):
        with pytest.raises(UserError, match=f"{says}.*leave init out"):
            train(resumed, resume=True, init=tmp_path / "other.safetensors")
    assert train(second, resume=True, init=first).record["init"]["source"] == str(first)


def test_more_epochs_keep_the_note(first, second, tmp_path):
    folder = shutil.copytree(second, tmp_path / "run")
    fit(tiny_net(seed=7), tiny_data(), None, RECIPE.replace(epochs=3), folder, resume=True, quiet=True)
    assert record(folder)["init"] == record(second)["init"]
    fit(tiny_net(2), tiny_data(), "dfs", RECIPE.replace(epochs=3), tmp_path / "3", quiet=True, init=first)
    assert_same_weights(folder, tmp_path / "3")


def test_an_unfinished_run_is_refused_with_a_way_out_that_works(tmp_path):
    with pytest.raises(KeyError):
        train(tmp_path / "half", data=dying_data(STEPS + 3))
    with pytest.raises(UserError, match=r"is not finished; .* or give its last weights, ") as no:
        train(tmp_path / "run", init=tmp_path / "half")
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", init=str(no.value).rpartition(", ")[2])


def test_a_damaged_run_is_refused(first, tmp_path):
    source = shutil.copytree(first, tmp_path / "source")
    weights = bytearray((source / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (source / "weights.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="its SHA-256 is not the one in SHA256SUMS"):
        train(tmp_path / "run", init=source)


def test_a_refusal_leaves_net_and_folder_as_they_were(first, tmp_path):
    net = tiny_net(seed=2, width=6)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match="of the net's 18 weights have another shape"):
        fit(net, tiny_data(), "dfs", RECIPE, tmp_path / "run", quiet=True, init=first)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not (tmp_path / "run").exists()


def test_separate_networks_start_from_the_weights_of_the_joint_one(first):
    recipe = RECIPE.replace(lr=1e-12, weight_decay=0.0, epochs=1)
    run = fit(tiny_net(seed=2), tiny_data(), "separate", recipe, quiet=True, init=first)
    trained = load_file(first / "weights.safetensors")["stages.0.0.weight"]
    for each in run.net.nets:
        torch.testing.assert_close(next(each.parameters()), trained, rtol=0, atol=1e-6, check_device=False)


def test_a_run_of_separate_networks_is_refused_since_none_of_them_is_meant(tmp_path):
    out = tmp_path / "separate"
    fit(tiny_net(), tiny_data(), "separate", RECIPE.replace(epochs=1), quiet=True, out=out)
    for method in ("joint", "separate"):
        with pytest.raises(UserError, match="has a network for each output, by 'separate', and init takes"):
            fit(tiny_net(seed=2), tiny_data(), method, RECIPE, quiet=True, init=out)
