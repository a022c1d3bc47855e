import json


def test_b_reproduces_the_figures_and_writes(offramp, tmp_path):
    code, out, _ = offramp("toy", "--problem", "b", "--steps", 30, "--out", tmp_path, "--json")
    assert code == 0
    (found,) = json.loads(out)["problems"]
    assert (found["problem"], found["delta"], found["rate"], found["steps"]) == ("b", 0.95, 0.05, 30)
    sums = {row["method"]: round(row["sum"]["30"], 2) for row in found["methods"]}
    assert (sums["joint"], sums["cagrad"], sums["pcgrad"], sums["dominance"]) == (1.97, 1.96, 1.94, 1.48)
    assert {path.name for path in tmp_path.iterdir()} == {"toy-b.json", "toy-b.png"}


def test_both_as_tables(offramp):
    code, out, _ = offramp("toy", "--steps", 3, "--starts", "nash-mtl")
    assert code == 0
    assert "problem A: 3 steps of Adam at 0.003" in out
    assert out.count("from (") == 5
    assert "problem B: 3 steps of gradient descent at 0.05" in out
    assert "note: dr-mgf has not moved: its stages take 5 steps" in out
    assert "wrote" not in out


def test_mistakes_are_one_line(refused):
    assert "delta is 1.5" in refused("toy", "--problem", "b", "--delta", 1.5)
    assert "steps is -1" in refused("toy", "--problem", "a", "--steps=-1")
    assert "invalid choice" in refused("toy", "--problem", "c")
