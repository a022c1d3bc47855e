"""The kill test in its shortest form: one kill of one method, and one of a set that streams."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def crash(*words):
    return subprocess.run(
        [sys.executable, "-m", "tests.crash", *words], cwd=ROOT, capture_output=True, text=True, timeout=250
    )


@pytest.mark.slow
@pytest.mark.parametrize(("method", "attack"), [("dfs", "SIGKILL"), ("streaming", "SIGTERM to all")])
def test_one_kill_is_survived(method, attack):
    done = crash("--kills", "1", "--methods", method, "--attacks", attack)
    assert done.returncode == 0, done.stderr
    *_, row = done.stdout.splitlines()
    assert row.split() == ["all", *["1", "of", "1"] * 2]


def test_what_does_not_survive_is_told(tmp_path, monkeypatch):
    """A run whose weights are not the undisturbed run's is found out."""
    monkeypatch.syspath_prepend(ROOT)
    from tests.crash.comparing import difference

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        for file in ("run.json", "result.json"):
            (tmp_path / name / file).write_text("{}")
        (tmp_path / name / "metrics.csv").write_text(f"epoch,loss,seconds\n1,0.5,{len(name)}\n")
        (tmp_path / name / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "other" / "weights.safetensors").write_bytes(b"weightS")
    assert difference(tmp_path / "one", tmp_path / "other") == "weights.safetensors differs"
    (tmp_path / "other" / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "other" / "metrics.csv").write_text("epoch,loss,seconds\n1,0.6,1\n")
    assert difference(tmp_path / "one", tmp_path / "other") == "metrics.csv differs"


def test_what_is_not_there_is_not_attacked():
    done = crash("--methods", "dsf")
    assert done.returncode == 2 and "there is no dsf" in done.stderr
