"""Bits depend on the number of threads, so that a run that goes on has as many as it began with."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import STEPS, Tripwire, tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, UserError, fit

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none", schedule="constant")


@pytest.fixture(scope="module", autouse=True)
def given_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train(folder, *, threads, resume=False, recipe=RECIPE, method="dfs", act=None):
    """Train with so many threads in the process; the weights, and the numbers that the data met."""
    torch.set_num_threads(threads)
    seen = set()
    data = tiny_data(split=Tripwire)
    for split in (data.train, data.test):
        split.batches = noting(split.batches, seen)
    data.train.at, data.train.act = (STEPS + 2, act) if act else (-1, None)
    try:
        run = fit(tiny_net(), data, method, recipe, folder, resume=resume, quiet=True)
    finally:
        assert torch.get_num_threads() == threads
    return run.net.state_dict(), seen


def noting(batches, seen):
    return lambda *args, **kwargs: seen.add(torch.get_num_threads()) or batches(*args, **kwargs)


def stop():
    raise KeyError("stop")


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone") / "run", threads=2)[0]


def assert_same(state, other):
    assert all(torch.equal(tensor, other[name]) for name, tensor in state.items())


def test_the_number_of_threads_changes_bits_indeed(left_alone):
    """Else the tests below would show nothing."""
    state, _ = train(None, threads=1)
    assert not all(torch.equal(tensor, left_alone[name]) for name, tensor in state.items())


def test_a_resumed_run_takes_its_own_number_to_the_end_and_gives_the_other_back(tmp_path, left_alone):
    with pytest.raises(KeyError):
        train(tmp_path / "run", threads=2, act=stop)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["threads"] == 2
    state, seen = train(tmp_path / "run", threads=1, resume=True)
    assert_same(state, left_alone)
    assert seen == {2}


@pytest.mark.parametrize("method", ["separate", "dr-mgf"])
def test_so_do_other_loops(tmp_path, method):
    alone, _ = train(tmp_path / "alone", threads=2, method=method)
    with pytest.raises(KeyError):
        train(tmp_path / "run", threads=2, method=method, act=stop)
    state, seen = train(tmp_path / "run", threads=1, method=method, resume=True)
    assert_same(state, alone)
    assert seen == {2}


def test_a_longer_run_keeps_it(tmp_path):
    longer = RECIPE.replace(epochs=3)
    alone, _ = train(tmp_path / "alone", threads=2, recipe=longer)
    train(tmp_path / "run", threads=2)
    state, _ = train(tmp_path / "run", threads=1, recipe=longer, resume=True)
    assert_same(state, alone)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["threads"] == 2


def edit(folder, **changes):
    path = unchecked(folder) / "run.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def test_a_run_that_noted_none_goes_on_with_those_there_are(tmp_path):
    with pytest.raises(KeyError):
        train(tmp_path / "run", threads=2, act=stop)
    edit(tmp_path / "run", threads=None)
    _, seen = train(tmp_path / "run", threads=1, resume=True)
    assert seen == {1}
    assert "threads" not in json.loads((tmp_path / "run" / "run.json").read_text())


def test_where_torch_does_not_take_as_many_it_is_said(tmp_path, capsys, monkeypatch):
    with pytest.raises(KeyError):
        train(tmp_path / "run", threads=2, act=stop)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    fit(tiny_net(), tiny_data(), "dfs", RECIPE, tmp_path / "run", resume=True, quiet=True)
    assert capsys.readouterr().err == ""  # it has 2 already
    monkeypatch.undo()
    edit(tmp_path / "run", threads=3)
    (tmp_path / "run" / "result.json").unlink()
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    fit(tiny_net(), tiny_data(), "dfs", RECIPE, tmp_path / "run", resume=True, quiet=True)
    assert "began with 3 threads, and torch takes 2 here: its last bits may differ" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [0, -1, 2.0, "2", True, [2], 10**9])
def test_a_damaged_number_is_one_line(tmp_path, damage):
    with pytest.raises(KeyError):
        train(tmp_path / "run", threads=1, act=stop)
    edit(tmp_path / "run", threads=damage)
    with pytest.raises(UserError, match="threads") as caught:
        train(tmp_path / "run", threads=1, resume=True)
    assert "\n" not in str(caught.value)
