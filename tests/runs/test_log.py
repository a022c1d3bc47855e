"""metrics.csv as it is written."""

from offramp.runs._log import Log


def test_a_column_that_a_later_epoch_lacks_is_kept(tmp_path):
    Log(tmp_path).write([{"epoch": 1, "old": 2.5}, {"epoch": 2, "new": 3}])
    assert (tmp_path / "metrics.csv").read_text() == "epoch,new,old\n1,,2.5\n2,3,\n"
