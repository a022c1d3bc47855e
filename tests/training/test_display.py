"""Lines on the screen: what matters, named, in 80 columns."""

import errno
import io
import math
import sys

import pytest

from offramp.training._display import Display


def row(exits, *, val=True, lr=0.0123, loss=1.5, speed=1234.4):
    return {
        "epoch": 12.0, "lr": lr,
        **{f"train_loss_{k}": loss * k for k in range(1, exits + 1)},
        **({f"val_top1_{k}": 50.0 + k for k in range(1, exits + 1)} if val else {}),
        "passes": 12.0, "seconds": 3.21, "images_per_second": speed,
    }  # fmt: skip


@pytest.fixture
def shown(capsys):
    def lines(epochs, *rows, part=False):
        with Display(epochs, 10) as display:
            for one in rows:
                (display.phase if part else display.epoch)(one)
        return capsys.readouterr().err.splitlines()

    return lines


def test_an_epoch_tells_means_and_the_last_exit_by_name(shown):
    assert shown(30, row(3)) == ["epoch 12/30  loss 3  val mean 52.0 last 53.0 %  lr 0.012  1234 img/s"]
    assert shown(30, row(3, val=False)) == ["epoch 12/30  loss 3  lr 0.012  1234 img/s"]


def test_it_fits_80_columns_and_drops_what_does_not(shown):
    long = row(13, lr=1.23e-5, loss=123.456, speed=123456)
    (line,) = shown(1000, long)
    assert line.endswith("lr 1.2e-05  123456 img/s")
    (wide,) = shown(10**12, long | {"epoch": 1e11})
    assert wide.startswith("epoch 100000000000/1000000000000  loss 864.2  val mean 57.0 last 63.0 %")
    assert max(len(line), len(wide)) <= 80


def test_a_part_tells_the_loss_of_the_exits_that_it_trained(shown):
    part = {"epoch": 2.0, "part": "stage 2", "train_loss_1": math.nan, "train_loss_2": 1.25, "seconds": 3.21}
    assert shown(30, part, part=True) == ["epoch 2/30  stage 2  loss 1.25  3.2 s"]
    idle = part | {"train_loss_2": math.nan}
    assert shown(30, idle, part=True) == ["epoch 2/30  stage 2  3.2 s"]


def test_other_metrics_are_told_by_name(shown):
    others = {"epoch": 12, "train_loss_box": 1.5, "train_loss_far_depth": 3, "train_loss_depth": math.nan}
    others |= {"val_iou_box": 45.25, "val_abs_err_far_depth": 0.1234, "val_mean_angle_depth": 30.0}
    (line,) = shown(30, others | {"lr": 0.0123, "images_per_second": 12.0})
    assert line == "epoch 12/30  loss 2.25  val box 45.25  far_depth 0.1234  depth 30  lr 0.012"
    errors = row(2, val=False) | {"val_abs_err_1": 0.5, "val_abs_err_2": 0.25}
    (line,) = shown(30, errors)
    assert line.startswith("epoch 12/30  loss 2.25  val abs err mean 0.375 last 0.25  lr 0.012")


class Gone(io.StringIO):
    """A pipe or a terminal that was closed, or a file on a full disk."""

    def __init__(self, code):
        super().__init__()
        self.code, self.tries = code, 0

    def isatty(self):
        return self.code == errno.EIO

    def write(self, text=""):
        self.tries += 1
        raise OSError(self.code, "gone")

    flush = write


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_training_goes_on_where_nobody_reads_its_lines_any_more(monkeypatch, code):
    monkeypatch.setattr(sys, "stderr", gone := Gone(code))
    with Display(30, 10) as display:
        display.step(0, 100.0)
        display.epoch(row(3))
    assert gone.tries


def test_a_program_without_stderr_has_nothing_on_stdout(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with Display(30, 10) as display:
        display.epoch(row(3))
    assert capsys.readouterr().out == ""
