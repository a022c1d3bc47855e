import json


def test_json_holds_the_runs_and_their_difference(offramp, runs, result_of):
    code, out, _ = offramp("compare", runs / "joint", runs / "dfs", "--json")
    assert code == 0
    document = json.loads(out)
    joint, dfs = result_of(runs / "joint"), result_of(runs / "dfs")
    assert [run["method"] for run in document["runs"]] == ["joint", "dfs"]
    assert document["runs"][1].items() >= dfs.items()
    (difference,) = document["differences"]
    assert difference["average_top1"]["mean"] == dfs["average_top1"] - joint["average_top1"]
    assert difference["average_top1"]["low"] is None
    assert document["groups"][0]["seconds"]["mean"] > 0


def test_table_and_picture(offramp, runs, tmp_path):
    code, out, _ = offramp("compare", runs / "joint", runs / "dfs", "--out", tmp_path / "picture.png")
    assert code == 0
    assert out.startswith("vgg7:width=4 on digits")
    assert "difference to joint" in out
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_mistakes_are_one_line(refused, runs, tmp_path):
    assert "give one or more run folders" in refused("compare")
    assert "is one run and not two" in refused("compare", runs / "joint", runs / "joint")
    assert "no run folder" in refused("compare", runs / "joint", tmp_path / "none")
    (tmp_path / "d.png").mkdir()
    assert "d.png is there already" in refused("compare", runs / "joint", "--out", tmp_path / "d.png")
    assert "end the name in .png" in refused("compare", runs / "joint", "--out", "picture.doc")


def test_published_rows_stand_beside_and_say_so(offramp, refused, runs):
    words = ("compare", "--published", "dfs-table4", runs / "joint", runs / "dfs")
    code, out, _ = offramp(*words)
    assert code == 0
    assert "dfs beta=0.5 (published)" in out
    assert "published: Gong et al., Deep Feature Surgery, ECCV 2024, Table 4; vgg7 on CIFAR-100" in out
    document = json.loads(offramp(*words, "--json")[1])
    plain = json.loads(offramp("compare", runs / "joint", runs / "dfs", "--json")[1])
    *_, last = document["published"]["rows"]
    assert last["exits"][-1] == {"top1": 73.06}
    assert (last["average_top1"], last["ensemble_top1"]) == (None, None)
    assert {**plain, "published": document["published"]} == document
    assert "dfs-table2 (msdnet_cifar on CIFAR-100, 7 exits, 11 methods)" in refused(
        "compare", runs / "joint", "--published", "dfs-table"
    )
