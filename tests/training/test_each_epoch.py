"""A function of the user's that hears of every epoch, once the epoch is on disk."""

import pytest
from tiny_runs import RECIPES, rows, tiny_data, tiny_net

from offramp import Run, fit
from offramp.runs import checkpoint


def test_it_is_called_once_the_epoch_s_log_and_checkpoint_are_written(tmp_path):
    seen = []

    def look():
        seen.append((len(rows(tmp_path / "run")), checkpoint.last(tmp_path / "run").name))

    fit(tiny_net(), tiny_data(), "dfs", RECIPES["sgd"], tmp_path / "run", quiet=True, each_epoch=look)
    assert seen == [(epoch, f"epoch-{epoch:05d}-step-0000000") for epoch in (1, 2, 3)]


def test_what_it_raises_ends_the_training_after_a_good_checkpoint(tmp_path):
    def stop():
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        fit(tiny_net(), tiny_data(), "dfs", RECIPES["sgd"], tmp_path / "run", quiet=True, each_epoch=stop)
    alone = fit(tiny_net(), tiny_data(), "dfs", RECIPES["sgd"], tmp_path / "alone", quiet=True)
    resumed = fit(tiny_net(), tiny_data(), out=tmp_path / "run", resume=True, quiet=True)
    assert resumed.result == alone.result
    assert Run.open(tmp_path / "run", tiny_net()).result == alone.result
