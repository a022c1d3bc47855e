import errno
import re
import subprocess
import sys

import pytest

from offramp.cli import main
from offramp.cli.main import COMMANDS
from offramp.nets import text


def test_help_names_every_command(offramp):
    code, out, err = offramp("--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(offramp, command):
    code, out, err = offramp(command, "--help")
    assert (code, err) == (0, "")
    assert f"examples:\n  offramp {command}" in out
    assert "--json" in out
    assert "--debug" in out
    assert {"None", "False", "", "''"}.isdisjoint(re.findall(r"\(default:\s*([^)]*)\)", out))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no command given"),
        (("trian",), "no command 'trian' (did you mean 'train'?)"),
        (("--json",), "no command '--json'"),
        (("nets", "--jsno"), "no flag --jsno (did you mean '--json'?)"),
        (("nets", "vgg7"), "vgg7"),
        (("train", "--data"), "missing: --net, --method, --out"),
        (("train", "--data", "d", "--net", "n", "--method", "m", "--out"), "--out"),
    ],
)
def test_words_that_do_not_parse_are_one_line(refused, words, says):
    line = refused(*words)
    assert says in line
    assert "--help" in line


def test_debug_shows_the_traceback_and_keeps_the_code(offramp):
    code, out, err = offramp("cost", "--net", "vgg8", "--debug")
    assert (code, out) == (2, "")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("offramp cost: no network 'vgg8'")


def test_a_fault_of_ours_is_one_line_and_code_1(offramp, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(text, "sketch", fail)
    code, out, err = offramp("cost", "--net", "vgg7")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "report" in err


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "f"), 2, "f; make room"),
        (OSError(errno.EACCES, "Permission denied", "f"), 2, "f; fix the permissions"),
        (OSError(errno.EIO, "I/O"), 1, "report"),
    ],
)
def test_what_the_disk_refuses_is_the_users_to_mend(offramp, monkeypatch, error, code, remedy):
    def fail(*_):
        raise error

    monkeypatch.setattr(text, "sketch", fail)
    ended, _, err = offramp("cost", "--net", "vgg7")
    assert ended == code
    assert remedy in err


def test_a_missing_extra_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    for name in [name for name in sys.modules if name.startswith("offramp.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    assert "pip install 'offramp[cli]'" in refused("compare", "a")


@pytest.mark.parametrize("words", [["train", "--help"], ["nets", "--json"]])
def test_a_quick_answer_imports_nothing_heavy(words):
    code = (
        "import sys; from offramp.cli import main; main(sys.argv[1:]); "
        "heavy = {'lightning_fabric', 'datasets', 'matplotlib', 'sklearn', 'rich', 'tensorboard'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_early_ends_it_quietly():
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from offramp.cli import main; sys.exit(main(['--help']))",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize(("rank", "answers"), [("0", True), ("1", False)])
def test_under_torchrun_one_process_answers(offramp, monkeypatch, rank, answers):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    monkeypatch.setenv("RANK", rank)
    code, out, _ = offramp("methods")
    assert (code, bool(out)) == (0, answers)


def test_version(offramp):
    assert offramp("--version")[1].startswith("offramp ")


def test_main_is_the_entry_point():
    from importlib.metadata import entry_points

    from offramp.__main__ import program

    (script,) = entry_points(group="console_scripts", name="offramp")
    assert script.load() is program  # which calls main


def test_a_mistake_is_exit_code_2_where_its_line_cannot_be_written(monkeypatch):
    class Full:
        """A file on a full disk."""

        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["trian"]) == 2
