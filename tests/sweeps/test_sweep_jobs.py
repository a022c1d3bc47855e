"""Jobs that stand for training runs: small Python programs that need no torch."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offramp import UserError
from offramp.runs.files import ANEW
from offramp.sweeps._jobs import Job, JobResult, run_jobs
from offramp.sweeps.sweep import Failure, SweepResult

# A stand-in for a run: notes that it started, ends at SIGTERM in its own time, and says how.
PATIENT = """
import signal, sys, time
from pathlib import Path
def stop(*_):
    time.sleep(float(sys.argv[2]))
    Path(sys.argv[1] + ".stopped").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
Path(sys.argv[1] + ".started").touch()
time.sleep(60)
"""

# A program that runs two such jobs at a time, and what it says when it is interrupted.
SWEEP = """
import sys
from pathlib import Path
from offramp.sweeps._jobs import Job, run_jobs
from offramp.training.interrupt import Interruption
folder, patience, program = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
words = lambda n: [sys.executable, "-c", program, str(folder / n), patience]
try:
    run_jobs([Job(n, words(n), folder / f"{n}.log") for n in "abc"], 2, on_end=lambda ended: None)
except Interruption as stop:
    print(stop)
    sys.exit(128 + stop.signum)
"""


@pytest.fixture
def job(tmp_path):
    return lambda name, code: Job(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def test_a_job_that_fails_does_not_stop_the_others(job):
    ended: list[JobResult] = []
    codes = {"good": "print('fine')", "bad": "import sys; sys.exit('no luck\\n')", "last": ""}
    run_jobs([job(name, code) for name, code in codes.items()], 2, on_end=ended.append)
    assert {e.job.name: e.code for e in ended} == {"good": 0, "bad": 1, "last": 0}
    assert {e.job.name: e.last_line for e in ended} == {
        "good": "fine", "bad": "no luck", "last": "it said nothing",
    }  # fmt: skip


def test_a_job_whose_log_cannot_be_written_does_not_stop_the_others(job, tmp_path):
    (tmp_path / "blocked.log").mkdir()
    ended: dict[str, JobResult] = {}
    names = ("first", "blocked", "last")
    run_jobs(
        [job(name, "print('fine')") for name in names], 1, on_end=lambda e: ended.update({e.job.name: e})
    )
    assert {name: each.code for name, each in ended.items()} == {"first": 0, "blocked": 2, "last": 0}
    assert ended["blocked"].reason == (
        f"cannot write {tmp_path / 'blocked.log'}: a folder stands where a file must be; move it away, or "
        "give another folder"
    )


def test_a_log_that_is_gone_is_said(job, tmp_path):
    ended: list[JobResult] = []
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).unlink(); sys.exit(1)"
    gone = job("gone", code)
    run_jobs([Job("gone", [*gone.words, str(gone.log)], gone.log)], 1, on_end=ended.append)
    assert [each.last_line for each in ended] == ["what it said is no longer there"]


def test_so_many_run_at_a_time_and_no_more(job, tmp_path):
    code = f"""
import os, time
from pathlib import Path
mine = Path({str(tmp_path)!r}, f"{{os.getpid()}}.running")
mine.touch()
time.sleep(0.3)
print(len(list(mine.parent.glob("*.running"))))
mine.unlink()
"""
    ended: list[JobResult] = []
    run_jobs([job(str(n), code) for n in range(5)], 2, on_end=ended.append)
    assert max(int(e.last_line) for e in ended) == 2


def test_each_has_as_many_threads_as_it_is_told(job):
    ended: list[JobResult] = []
    run_jobs([job("a", "import os; print(os.environ['OMP_NUM_THREADS'])")], 1, threads=3, on_end=ended.append)
    assert ended[0].last_line == "3"


def start_sweep(folder: Path, patience: float) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, folder, str(patience), PATIENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while len(list(folder.glob("*.started"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_running_jobs_in_order_and_starts_no_more(tmp_path, signum):
    process = start_sweep(tmp_path, patience=0.3)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signum, f"stopped by {signum.name}\n")
    assert err == "stopping a, b at the next checkpoint; Ctrl-C again kills\n"
    assert sorted(path.name for path in tmp_path.glob("*.*ed")) == [
        "a.started", "a.stopped", "b.started", "b.stopped",
    ]  # fmt: skip


def test_jobs_are_stopped_in_order_where_nobody_reads_stderr_any_more(tmp_path):
    process = start_sweep(tmp_path, patience=0.3)
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    with process:  # closes its stdout
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.glob("*.stopped")) == ["a.stopped", "b.stopped"]


def test_two_signals_kill(tmp_path):
    process = start_sweep(tmp_path, patience=50)
    process.send_signal(signal.SIGINT)
    assert "stopping a, b" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "interrupted twice; the last checkpoint stands\n")
    assert not list(tmp_path.glob("*.stopped"))


def test_failures_are_the_users_unless_one_is_ours(tmp_path):
    users, ours = (Failure(name, "why", tmp_path / "log", users=name == "a") for name in "ab")
    assert SweepResult((tmp_path,), ()).error is None
    error = SweepResult((tmp_path, tmp_path), (users,)).error
    assert isinstance(error, UserError)
    assert str(error).startswith("1 of 3 runs failed: a; a: why")
    error = SweepResult((), (users, ours)).error
    assert not isinstance(error, UserError)
    assert str(error).startswith("2 of 2 runs failed: a, b; a: why")
    assert str(error).endswith("; the same command tries again what failed")


def test_what_the_same_settings_would_repeat_is_not_to_be_tried_again(tmp_path):
    full = Failure("full", "the disk is full", tmp_path / "log", users=True)
    bad = Failure("bad", f"the loss is not finite: {ANEW} with a lower lr", tmp_path / "log", users=True)
    assert str(SweepResult((), (bad,)).error).endswith("; the same command would end there again")
    assert str(SweepResult((), (bad, full)).error).endswith("; the same command tries again what failed")
