import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file
from unchecked import unchecked

from offramp import Recipe, UserError
from offramp.cli import main
from offramp.sweeps._threads import settled_threads
from offramp.sweeps._trials import check_trials, trials
from offramp.sweeps.file import read_sweep

PLAN = {
    "data": "digits", "net": "vgg7:width=4", "seeds": [0], "epochs": 1,
    "batch_size": 16, "train_limit": 64, "test_limit": 50,
}  # fmt: skip


def write(folder, **changes):
    """A sweep into the folder ``out`` beside its file."""
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**PLAN, "out": str(folder / "out"), **changes}))
    return folder / "sweep.yaml"


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "seed-" in str(path)}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep in which one of three runs fails, since its loss is soon no number."""
    folder = tmp_path_factory.mktemp("swept")
    methods = ["joint", {"method": "dfs", "own_to_shared": 1}, {"method": "dfs", "lr": 1e30}]
    process = subprocess.run(
        [sys.executable, "-m", "offramp", "sweep", write(folder, methods=methods), "--jobs", "2", "--json"],
        capture_output=True,
        text=True,
    )
    return folder, process


def test_a_comparison_of_another_origin_is_not_replaced(tmp_path, capfd):
    sweep = write(tmp_path, methods=["joint"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.txt").write_text("mine")
    assert main(["sweep", str(sweep)]) == 2
    assert "comparison.txt is there and of no comparison" in capfd.readouterr().err
    assert (tmp_path / "out" / "comparison.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["comparison.txt"]


@pytest.mark.slow
def test_a_run_that_fails_is_named_at_the_end_and_the_others_are_compared(swept, result_of):
    folder, process = swept
    assert process.returncode == 2
    document = json.loads(process.stdout)
    joint, dfs = (folder / "out" / name / "seed-0" for name in ("joint", "dfs-own_to_shared=1"))
    assert [run["folder"] for run in document["runs"]] == [str(joint), str(dfs)]
    assert document["runs"][1].items() >= result_of(dfs).items()
    (failed,) = document["failed"]
    assert failed["name"] == "dfs-lr=1e+30/seed-0"
    assert "no longer finite" in failed["reason"] or "not finite" in failed["reason"]
    assert any("dfs-lr=1e+30/seed-0" in note for note in document["notes"])
    lines = process.stderr.splitlines()
    assert lines[-1].startswith("offramp sweep: 1 of 3 runs failed: dfs-lr=1e+30/seed-0")
    assert lines[-1].endswith("; the same command would end there again")
    assert lines[0].startswith("3 runs, 0 finished; 2 at a time")


@pytest.mark.slow
def test_the_report_is_what_compare_says_of_the_same_runs(swept, offramp):
    out = swept[0] / "out"
    runs = [out / name / "seed-0" for name in ("joint", "dfs-own_to_shared=1")]
    told = json.loads(offramp("compare", *runs, "--json")[1])
    written = json.loads((out / "comparison.json").read_text())
    assert {**told, "notes": 0, "picture": 0} == {**written, "notes": 0, "picture": 0}
    assert written["groups"][1]["passes"] == "F + B"
    assert "difference to joint" in (out / "comparison.txt").read_text()
    assert (out / "comparison.png").stat().st_size > 10_000


@pytest.mark.slow
def test_finished_runs_are_not_run_again(swept, offramp):
    folder, _ = swept
    before = stamps(folder / "out" / "joint") | stamps(folder / "out" / "dfs-own_to_shared=1")
    path = write(folder, methods=["joint", {"method": "dfs", "own_to_shared": 1}])
    code, out, err = offramp("sweep", path)
    assert code == 0
    assert err.splitlines() == [err.splitlines()[0]]
    assert err.startswith("2 runs, 2 finished")
    assert "joint" in out
    assert before == stamps(folder / "out" / "joint") | stamps(folder / "out" / "dfs-own_to_shared=1")


@pytest.mark.slow
def test_as_many_at_a_time_as_one_likes_give_the_same_weights(swept, offramp, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # of which the runs take no notice
    code, _, err = offramp("sweep", write(tmp_path, methods=["joint"]), "--jobs", "1")
    assert code == 0, err
    assert "threads for each: 1" in err
    runs = [folder / "out" / "joint" / "seed-0" for folder in (tmp_path, swept[0])]
    one, two = (load_file(run / "weights.safetensors") for run in runs)
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())
    assert [json.loads((run / "run.json").read_text())["threads"] for run in runs] == [1, 1]


@pytest.mark.slow
def test_the_threads_of_a_sweep_stay_as_they_were(swept, offramp, refused, tmp_path):
    assert json.loads((swept[0] / "out" / "sweep.json").read_text()) == {"threads": 1}
    line = refused("sweep", write(swept[0], methods=["joint"], threads=2))
    assert "threads is 2, but the runs in" in line
    assert "began with 1, and another number gives other weights; take threads: 1 in the sweep's file" in line
    code, _, err = offramp("sweep", write(swept[0], methods=["joint"], threads=1))
    assert code == 0, err
    assert settled_threads(tmp_path, 3) == settled_threads(tmp_path, None) == 3
    (tmp_path / "sweep.json").write_text('{"threads": 1}')
    with pytest.raises(UserError, match=r"sweep\.json is cut short, damaged or changed"):
        settled_threads(tmp_path, None)
    unchecked(tmp_path)
    for damage in ("", "[]", '{"threads": 0}', '{"threads": true}', "[" * 5000):
        (tmp_path / "sweep.json").write_text(damage)
        with pytest.raises(UserError, match="delete it and give their number as threads in the sweep's file"):
            settled_threads(tmp_path, 3)


@pytest.mark.slow
def test_a_learning_rate_is_picked_on_validation_images(swept, offramp, tmp_path):
    """Of two finished runs, one is made better on the validation images, the other on the test images."""
    original = swept[0] / "out" / "joint" / "seed-0"
    for name, factor, val, test in (("seed-0", 1, 40, 99), ("seed-0-lr-x3", 3, 41, 1)):
        run = unchecked(shutil.copytree(original, tmp_path / "out" / "joint" / name))
        record = json.loads((run / "run.json").read_text())
        record["recipe"]["lr"] *= factor
        (run / "run.json").write_text(json.dumps(record))
        result = json.loads((run / "result.json").read_text())
        result["average_top1"] = test
        for exit in result["exits"]:
            exit["top1"] = test
        (run / "result.json").write_text(json.dumps(result))
        (run / "metrics.csv").write_text(f"epoch,seconds,val_top1_1\n1,{factor},{val}\n")
    code, out, err = offramp("sweep", write(tmp_path, methods=["joint"]), "--lr", "1,3", "--json")
    assert (code, err[:18]) == (0, "2 runs, 2 finished")
    document = json.loads(out)
    assert [run["average_top1"] for run in document["runs"]] == [1]
    search = document["groups"][0]["search"]
    assert search["seconds"] == 4
    assert [one["lr"] for one in search["tried"]] == pytest.approx([0.1, 0.3])
    assert [one["val_top1"] for one in search["tried"]] == [40, 41]


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    path = write(tmp_path, methods=["joint"], epochs=30, train_limit=200)
    process = subprocess.Popen(
        [sys.executable, "-m", "offramp", "sweep", path, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log, until = tmp_path / "out" / "logs" / "joint-seed-0.log", time.monotonic() + 60
    while not (log.exists() and "epoch 2/30" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("offramp sweep: stopped by SIGINT; 0 of 1 runs are finished")
    run = tmp_path / "out" / "joint" / "seed-0"
    assert list((run / "checkpoint").iterdir())
    assert not (run / "result.json").exists()
    assert "stopped by SIGTERM" in log.read_text()

    assert main(["sweep", str(path), "--jobs", "2"]) == 0
    assert (run / "result.json").exists()
    assert log.read_text().count("epoch 1/30 ") == 1  # nothing was done twice
    assert log.read_text().count("epoch 30/30 ") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"net": "vgg8"}, "did you mean 'vgg7'?"),
        ({"net": "vgg7:widht=4"}, "did you mean 'width'?"),
        ({"data": "no/such/folder"}, "no/such/folder"),
        ({"train_limit": 10**6}, "train_limit=1000000"),
        ({"batch_size": 1000}, "58 samples do not fill one batch of 1000; take batch_size=58"),
        ({"augment": "flop"}, "flop"),
        ({"methods": ["joint", "dsf"]}, "did you mean 'dfs'?"),
        ({"sedes": [1]}, "did you mean 'seeds'?"),
        (
            {"init": "no/such/file"},
            "there is no no/such/file; give a finished run, or a file of weights, as init",
        ),
        ({"methods": ["joint", {"method": "dfs", "init": "nowhere"}]}, "there is no nowhere"),
        ({"threads": 0}, "threads is 0, must be a whole number from 1 to 4096"),
        ({"threads": "two"}, "threads is 'two', must be a whole number"),
    ],
)
def test_mistakes_are_told_before_the_first_run(refused, tmp_path, changes, says):
    line = refused("sweep", write(tmp_path, **{"methods": ["joint"], **changes}))
    assert line.startswith("offramp sweep: ")
    assert says in line
    assert not (tmp_path / "out").exists()


def test_mistakes_on_the_command_line(refused, tmp_path):
    path = write(tmp_path, methods=["joint"])
    assert "jobs is 0" in refused("sweep", path, "--jobs", "0")
    assert "factors '1,x'" in refused("sweep", path, "--lr", "1,x")
    assert "cannot read the sweep" in refused("sweep", tmp_path / "none.yaml")


def test_a_file_in_the_way_is_named(refused, tmp_path):
    (tmp_path / "out").write_text("precious")
    line = refused("sweep", write(tmp_path, methods=["joint"]))
    assert f"{tmp_path / 'out'}" in line
    assert "a file stands where a folder must be" in line
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.slow
def test_a_folder_with_runs_of_another_recipe_is_refused(swept, refused):
    folder, _ = swept
    line = refused("sweep", write(folder, methods=["joint"], momentum=0.8))
    assert "holds a run with another recipe: momentum was 0.9, is 0.8" in line
    line = refused("sweep", write(folder, methods=["joint"], epochs=3))
    assert "cannot be extended from 1 to 3 epochs, since the learning rate of schedule onecycle" in line
    assert "train the longer run anew into another folder" in line


def test_more_epochs_extend_the_runs(offramp, tmp_path, result_of):
    run = tmp_path / "out" / "joint" / "seed-0"
    settings = [f"{key}={value}" for key, value in PLAN.items() if key not in ("data", "net", "seeds")]
    words = ["--data", "digits", "--net", PLAN["net"], "--method", "joint", "--set", *settings]
    code, _, err = offramp("train", *words, "schedule=constant", "--out", run)
    assert code == 0, err
    short = result_of(run)
    plan = read_sweep(write(tmp_path, methods=["joint"], schedule="constant", epochs=2))
    (longer,) = runs = trials(plan, [1])
    check_trials(plan, runs)
    assert not longer.finished
    code, _, err = offramp(*longer.job(plan).words[3:])  # what the sweep runs, in this process
    assert code == 0, err
    assert longer.finished
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + 2
    assert result_of(run / "epochs-1") == short


def test_a_run_is_told_its_epochs_at_their_default_too(tmp_path):
    plan = read_sweep(write(tmp_path, methods=["joint"], epochs=Recipe().epochs))
    (run,) = trials(plan, [1])
    assert {"--set=epochs=30", "--set=milestones=[]"} <= set(run.job(plan).words)
