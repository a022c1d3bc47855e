import json


def test_the_curve_stands_beside_the_exits_of_the_final_evaluation(offramp, runs, result_of, tmp_path):
    words = ("budget", runs / "joint", runs / "dfs", "--out", tmp_path / "budget.png")
    code, out, err = offramp(*words, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["net"], document["data"], document["convention"]) == ("vgg7:width=4", "digits", "thop")
    assert [group["label"] for group in document["groups"]] == ["joint", "dfs"]
    for group in document["groups"]:
        result = result_of(runs / group["label"])
        (run,) = group["runs"]
        assert len(run["points"]) == 40
        # float32 logits of one batch size here and of another there may tie otherwise, on 50 images
        for exit, found in zip(result["exits"], run["exits"], strict=True):
            assert abs(exit["top1"] - found["top1"]) <= 2
        assert run["exits"][0]["flops"] == result["exits"][0]["flops"]  # no earlier head
        assert run["static"]["executed"] == result["exits"][-1]["flops"]  # thop: the exit's own head
        assert run["static"]["top1"] == run["exits"][-1]["top1"] <= run["oracle"]["top1"]
        for point in run["points"]:
            assert point["executed"] <= point["flops"] <= run["exits"][-1]["flops"]
            assert len(point["thresholds"]) == 5
            assert abs(sum(point["shares"]) - 1) < 1e-9
    assert document["published"] is None
    assert (tmp_path / "budget.png").stat().st_size > 10_000


def test_another_net_than_the_published_one_is_told(offramp, runs):
    code, out, _ = offramp("budget", runs / "joint", "--published", "dfs-fig3")
    assert code == 0
    assert out.rstrip().endswith(
        "note: dfs-fig3 (published) is not shown: it is of msdnet_cifar on CIFAR-100, "
        "and these runs are of vgg7:width=4 on digits"
    )


def test_mistakes_are_one_line(offramp, refused, small, runs, tmp_path):
    assert "give one or more run folders" in refused("budget")
    assert "no run folder" in refused("budget", tmp_path)
    assert "no published curve 'fig3'" in refused("budget", runs / "joint", "--published", "fig3")
    assert "end the name in .png" in refused("budget", runs / "joint", "--out", tmp_path / "b.doc")
    for name, words in {
        "separate": ("--method", "separate"),
        "no-val": ("--method", "joint", "--set", "val_fraction=0"),
    }.items():
        assert offramp(*small, *words, "--out", tmp_path / name)[0] == 0
    assert "no exits in a row" in refused("budget", tmp_path / "separate")
    assert "the run held out no validation samples" in refused("budget", tmp_path / "no-val")
