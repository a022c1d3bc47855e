import json


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
