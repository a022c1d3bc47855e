"""The driver of ``make gpu``: parts are apart, are not run twice, and leave a record when they fail."""

import json
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
GOOD = "import sys; open(sys.argv[-1], 'w').write('{\"done\": true}')"
BAD = "import sys; open(sys.argv[-1], 'w').write('{\"half\": 1}'); print('what went wrong'); sys.exit(3)"
SLOW = "import time; time.sleep(60)"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the driver on parts of our own; its exit code."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    from _gpu.parts import Part

    def start(scripts, *words, seconds=30.0):
        for name, text in scripts.items():
            (tmp_path / f"{name}.py").write_text(text)
        made = [Part(n, (str(tmp_path / f"{n}.py"),), seconds, check=n.startswith("c")) for n in scripts]
        monkeypatch.setattr(gpu, "parts", lambda *, small: made)
        monkeypatch.setattr(gpu, "tables", lambda folder: "")
        out = ["--device", "cpu", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *out, *words])
        return gpu.main()

    return start


def test_one_part_that_fails_stops_no_other_and_is_recorded(run, tmp_path, capsys):
    assert run({"check": BAD, "after": GOOD}) == 1
    out = tmp_path / "out"
    assert json.loads((out / "after.json").read_text()) == {"done": True}
    assert not (out / "check.json").exists()
    record = json.loads((out / "check.failed.json").read_text())
    assert (record["error"], record["partial"]) == ("exit code 3", {"half": 1})
    assert "what went wrong" in capsys.readouterr().out


def test_what_passed_is_not_run_again_and_what_failed_is(run, tmp_path):
    run({"one": GOOD, "two": BAD})
    assert run({"one": BAD, "two": GOOD}) == 0  # the first would fail if it ran
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["one.json", "two.json"]
    assert run({"one": BAD, "two": GOOD}, "--again") == 1
    assert not (tmp_path / "out" / "one.json").exists()


def test_a_part_runs_out_of_its_time_and_the_whole_out_of_its_own(run, tmp_path):
    began = time.monotonic()
    assert run({"slow": SLOW, "next": GOOD}, seconds=1.0) == 1
    assert time.monotonic() - began < 30
    out = tmp_path / "out"
    assert json.loads((out / "slow.failed.json").read_text())["error"] == "ran out of its 1 s"
    run({"slow": GOOD}, "--minutes", "0")
    assert json.loads((out / "slow.failed.json").read_text())["error"].startswith("not run")


def test_a_part_that_writes_no_result_has_failed(run, tmp_path):
    assert run({"quiet": "pass", "next": GOOD}) == 1
    assert (tmp_path / "out" / "next.json").exists()
    assert "no result" in json.loads((tmp_path / "out" / "quiet.failed.json").read_text())["error"]


def test_some_parts_alone(run, tmp_path):
    with pytest.raises(SystemExit):
        run({"one": GOOD}, "--only", "nothing")
    assert run({"check": GOOD, "other": BAD}, "--only", "checks") == 0
    assert not (tmp_path / "out" / "other.failed.json").exists()
