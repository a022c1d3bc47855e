import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import offramp
from offramp.cli import main

CALL = "import sys; from offramp.cli import main; sys.exit(main())"
WORDS = ["train", "--data", "digits", "--net", "vgg7:width=4", "--method", "dfs", "--epochs", "15"]
WORDS += ["--set", "train_limit=300", "test_limit=50"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*WORDS, "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_its_code_and_resume_finishes(tmp_path, uninterrupted, signum):
    words = [*WORDS, "--out", str(tmp_path / "run"), "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},  # sums in the same order as here
    )
    first = process.stderr.readline()
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert first.startswith("epoch 1/15")
    assert (process.returncode, out) == (128 + signum, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"offramp train: stopped by {signum.name}")
    assert not (tmp_path / "run" / "result.json").exists()

    assert main(words) == 0
    assert (tmp_path / "run" / "result.json").read_text() == (uninterrupted / "result.json").read_text()
    resumed, whole = (load_file(run / "weights.safetensors") for run in (tmp_path / "run", uninterrupted))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_signal_outside_training_ends_it_too():
    code = (
        "import os, signal; from offramp.cli import main; from offramp.nets import text\n"
        "for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    text.sketch = lambda *_: os.kill(os.getpid(), signum) or signal.pause()\n"
        "    print(main(['cost', '--net', 'vgg7']) - 128 - signum)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0", "0"])
    lines = done.stderr.splitlines()
    assert lines == [
        "offramp cost: interrupted",
        *(f"offramp cost: stopped by {s}" for s in ("SIGTERM", "SIGHUP")),
    ]


AMID_AN_IMPORT = """
import os, sys
class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), {signum})
sys.meta_path.insert(0, Finder)
sys.argv[1:] = ["train", "--data", "no such set", "--net", "vgg7", "--method", "joint", "--out", "none"]
from offramp.__main__ import program
program()
"""


@pytest.mark.parametrize(
    ("module", "signum", "code"),
    [
        ("offramp.cli.main", signal.SIGINT, -signal.SIGINT),  # before the command
        ("tyro", signal.SIGTERM, 128 + signal.SIGTERM),
        ("torch._C", signal.SIGINT, 128 + signal.SIGINT),
        ("offramp.training.fit", signal.SIGHUP, 128 + signal.SIGHUP),
    ],
)
def test_a_signal_amid_an_import_is_no_traceback(module, signum, code):
    program = AMID_AN_IMPORT.format(module=module, signum=int(signum))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    told = "interrupted" if signum == signal.SIGINT else f"stopped by {signum.name}"
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == ("" if code < 0 else f"offramp train: {told}\n")


def test_little_is_imported_before_signals_are_answered():
    """What Python imports by itself is out of reach, so that the rest should be quick."""
    source = str(Path(offramp.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r}); import offramp.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60
    )
    modules = set(done.stdout.split())
    assert "offramp.__main__" in modules
    assert not modules & {
        "enum",
        "typing",
        "contextlib",
        "importlib.util",
        "pathlib",
        "offramp.errors",
        "offramp.cli",
    }


def test_another_signal_while_the_first_is_answered_is_no_traceback():
    code = (
        "import os, signal; from offramp.cli import main; from offramp.nets import text\n"
        "def twice(*_):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "text.sketch = twice\n"
        "print(main(['cost', '--net', 'vgg7']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("143\n", "offramp cost: stopped by SIGTERM\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_python_drops_amid_a_del_ends_it_all_the_same(signum):
    code = (
        "import os, sys; from offramp.cli import main; from offramp.nets import text\n"
        "class Closing:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), {int(signum)})\n"
        "        os.read(0, 1)\n"
        "def sketch(*_):\n"
        "    Closing()\n"
        "    print('it went on')\n"
        "text.sketch = sketch\n"
        "sys.argv[1:] = ['cost', '--net', 'vgg7']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, input="", text=True, timeout=60)
    told = "interrupted" if signum == signal.SIGINT else f"stopped by {signum.name}"
    assert (done.returncode, done.stdout) == (128 + signum, "")
    assert done.stderr == f"offramp cost: {told}\n"
