"""Programs that are started with stdin, stdout or stderr closed, as a shell's ``2>&-`` does."""

import shlex
import subprocess
import sys

import pytest


def shell(line, where):
    return subprocess.run(
        line.format(python=shlex.quote(sys.executable)), shell=True, cwd=where, capture_output=True, text=True
    )


def test_a_file_does_not_get_the_number_of_a_closed_stderr(tmp_path):
    (tmp_path / "job.py").write_text(
        "import os, sys\n"
        "from offramp.standard_streams import open_standard_streams\n"
        "open_standard_streams()\n"
        "with open('weights', 'w') as file:\n"
        "    os.write(2, b'a warning of a C library')\n"
        "    print('told', file=sys.stderr)\n"
        "print('answer')\n"
    )
    done = shell("{python} job.py 2>&- <&-", tmp_path)
    assert (done.returncode, done.stdout) == (0, "answer\n")
    assert (tmp_path / "weights").read_bytes() == b""


@pytest.mark.parametrize(
    ("words", "code", "answer"),
    [("--version >&-", 0, ""), ("nope 2>&-", 2, ""), ("--version <&- 2>&-", 0, "offramp ")],
)
def test_a_command_runs_with_its_streams_closed(tmp_path, words, code, answer):
    done = shell("{python} -m offramp " + words, tmp_path)
    assert done.returncode == code
    assert done.stdout.startswith(answer)
    assert bool(done.stdout) == bool(answer)
    assert done.stderr == ""


def test_the_runtime_runs_with_its_stdout_closed(tmp_path):
    done = shell("{python} -m offramp_runtime check nowhere >&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("offramp-runtime: cannot read the bundle nowhere")


def test_an_answer_that_the_disk_has_no_room_for_is_told_in_a_line(tmp_path):
    done = shell("{python} -m offramp --version >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (2, "offramp: No space left on device: stdout; make room\n")
