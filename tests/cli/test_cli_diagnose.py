import json

FEW = ("--batches", "2", "--step", "0.01")


def test_one_run_to_its_own_folder(offramp, runs):
    code, out, err = offramp("diagnose", runs / "joint", *FEW, "--what", "conflict", "routes", "convergence")
    assert code == 0
    assert "Pearson's r" in out and "no learned routes" in out
    assert out.strip().endswith(f"pictures and numbers: {runs / 'joint' / 'diagnosis'}")
    assert "over 2 training batches" in err
    files = {path.name for path in (runs / "joint" / "diagnosis").iterdir()}
    assert files == {"diagnosis.json", "conflict.png", "convergence.png"}


def test_json_is_the_document(offramp, runs, tmp_path):
    words = ("--what", "filters", "convergence", "--unit", "kernel", "--out", tmp_path / "a" / "b", "--json")
    code, out, _ = offramp("diagnose", runs / "joint", runs / "dfs", *FEW, *words)
    assert code == 0
    document = json.loads(out)
    assert document == json.loads((tmp_path / "a" / "b" / "diagnosis.json").read_text())
    assert document["settings"]["what"] == ["filters", "convergence"]
    assert document["settings"]["unit"] == "kernel"
    joint, dfs = document["runs"]
    assert joint["conflict"] is None
    assert joint["filters_as_trained"] is None
    # width 4: kernels of five shared convolutions, their bias and norms
    kernels = 3 * 4 + 4 * 4 + 4 * 8 + 8 * 8 + 8 * 16
    assert joint["filters"]["filters"] == kernels + 4 + 2 * (4 + 4 + 8 + 8 + 16)
    assert dfs["filters_as_trained"]["total"] < dfs["filters"]["total"]


def test_a_diagnosis_may_be_made_anew_but_over_nobody_else_s_picture(offramp, refused, runs, tmp_path):
    words = ("diagnose", runs / "joint", "--what", "convergence", "--out", tmp_path)
    (tmp_path / "walk.png").write_text("mine")
    (tmp_path / "convergence.png").write_text("mine")
    assert f"{tmp_path / 'convergence.png'} is there already" in refused(*words)
    (tmp_path / "convergence.png").unlink()
    assert offramp(*words)[0] == offramp(*words)[0] == 0
    assert (tmp_path / "walk.png").read_text() == "mine"


def test_mistakes_are_one_line(refused, runs, tmp_path):
    assert "give one or more run folders" in refused("diagnose")
    assert "no run folder" in refused("diagnose", tmp_path / "none")
    assert "say where their diagnosis goes with --out" in refused("diagnose", runs / "joint", runs / "dfs")
    assert "did you mean 'filters'" in refused("diagnose", runs / "joint", "--what", "filter")
    assert "--unit" in refused("diagnose", runs / "joint", "--unit", "layer")
    (tmp_path / "file").write_text("")
    mistake = refused("diagnose", runs / "joint", "--what", "routes", "--out", tmp_path / "file")
    assert "cannot write" in mistake and "give another --out" in mistake
