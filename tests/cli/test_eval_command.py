import json

import pytest

from offramp import Recipe, fit
from offramp.nets.text import build


def test_eval_repeats_the_final_evaluation(offramp, runs, result_of):
    code, out, _ = offramp("eval", runs / "dfs", "--json")
    assert code == 0
    assert (
        json.loads(out).items()
        >= {k: v for k, v in result_of(runs / "dfs").items() if k != "seconds"}.items()
    )


def test_data_may_be_another_set(offramp, runs, grey):
    code, out, err = offramp("eval", runs / "joint", "--data", grey(32), "--json")
    assert code == 0, err
    assert json.loads(out)["data"] == "grey"


def test_mistakes_are_one_line(refused, tmp_path, runs):
    assert "no run folder" in refused("eval", tmp_path / "nowhere")
    assert "RUN" in refused("eval")
    assert "none" in refused("eval", runs / "joint", "--data", tmp_path / "none")


def test_a_run_on_larger_images_keeps_its_costs(offramp, grey, tmp_path, result_of):
    run = tmp_path / "run"
    words = ["--net", "vgg7:width=4", "--method", "joint", "--epochs", 1, "--set", "batch_size=10"]
    code, _, err = offramp("train", "--data", grey(48), *words, "--out", run)
    assert code == 0, err
    code, out, err = offramp("eval", run, "--json")
    assert code == 0, err
    assert json.loads(out)["exits"] == result_of(run)["exits"]


def test_the_moving_average_is_evaluated_where_there_is_one(
    offramp, refused, runs, grey, tmp_path, result_of
):
    run = tmp_path / "run"
    words = [
        "--net",
        "vgg7:width=4",
        "--method",
        "joint",
        "--epochs",
        1,
        "--set",
        "batch_size=10",
        "average=0.9",
    ]
    code, _, err = offramp("train", "--data", grey(32), *words, "--out", run)
    assert code == 0, err
    code, out, err = offramp("eval", run, "--averaged", "--json")
    assert code == 0, err
    found, averaged = json.loads(out), result_of(run)["averaged_weights"]
    assert [exit["top1"] for exit in found["exits"]] == [exit["top1"] for exit in averaged["exits"]]
    assert "without --averaged" in refused("eval", runs / "joint", "--averaged")


ROOMS = "rooms:images=8,height=32,width=32"


@pytest.fixture(scope="module")
def depth_runs(tmp_path_factory):
    """Two runs of a net for depth alone, and one on other rooms."""
    folder = tmp_path_factory.mktemp("depth")
    recipe = Recipe(epochs=1, batch_size=2, lr=0.01)
    for name, data, seed in (("a", ROOMS, 0), ("b", ROOMS, 1), ("other", f"{ROOMS},seed=1", 0)):
        net = build("segnet:task=depth,width=1", input_size=(3, 32, 32))
        fit(net, data, "joint", recipe.replace(seed=seed), folder / name, quiet=True)
    return folder


def test_tasks_are_printed_with_their_delta_m(offramp, depth_runs):
    code, out, err = offramp("eval", depth_runs / "a", "--json")
    assert code == 0, err
    alone = json.loads(out)
    assert [*alone] == ["net", "method", "data", "seed", "tasks", "delta_m"]
    assert [*alone["tasks"]["depth"]][:2] == ["abs_err", "rel_err"]
    assert alone["delta_m"] is None
    code, out, err = offramp("eval", depth_runs / "a", "--baseline", depth_runs / "b", "--json")
    assert code == 0, err
    found = json.loads(out)
    other = json.loads((depth_runs / "b" / "result.json").read_text())["outputs"]["depth"]["metrics"]
    changes = [found["tasks"]["depth"][name] / other[name] - 1 for name in ("abs_err", "rel_err")]
    assert found.pop("delta_m") == pytest.approx(50 * sum(changes))
    assert found == {key: value for key, value in alone.items() if key != "delta_m"}
    code, out, err = offramp("eval", depth_runs / "a", "--baseline", depth_runs / "a")
    assert code == 0, err
    assert out.splitlines()[-1] == "delta-m +0.00 % (below 0: better than the baseline)"


def test_a_baseline_that_does_not_fit_is_one_line(refused, depth_runs, runs):
    run = depth_runs / "a"
    both = ["--baseline", depth_runs / "b", depth_runs / "b"]
    assert "two baselines have an output 'depth'" in refused("eval", run, *both)
    assert "two baselines" in refused("eval", run, *both[:2], *both[:2])
    assert "give a baseline on the same data" in refused("eval", run, "--baseline", depth_runs / "other")
    assert "give a baseline on the same data" in refused("eval", run, "--baseline", runs / "dfs")
    assert "no run folder" in refused("eval", run, "--baseline", depth_runs)
    words = ["--baseline", depth_runs / "b", "--data", "rooms"]
    assert "leave out --baseline or --data" in refused("eval", run, *words)


def test_exits_have_a_delta_m_too(offramp, runs):
    code, out, err = offramp("eval", runs / "dfs", "--baseline", runs / "joint", "--json")
    assert code == 0, err
    assert {"exits", "average_top1", "ensemble_top1", "delta_m"} <= json.loads(out).keys()
