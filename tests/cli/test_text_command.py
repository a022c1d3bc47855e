"""Texts on the command line: their tokenizer is a flag, and the run remembers it."""

import json

import pytest
from tiny_texts import write_texts, write_tokenizer

CODE = """
from tiny_texts import text_net

def bert(num_classes):
    return text_net("Bert", num_labels=num_classes)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    write_texts(tmp_path / "reviews")
    write_tokenizer(tmp_path / "words")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_training_to_evaluation(offramp, refused, result_of, folder):
    words = ("train", "--data", "reviews", "--net", "mine.py:bert", "--method", "dfs", "--out", "run")
    words += ("--epochs", 1, "--set", "batch_size=9")
    line = refused(*words)
    assert "no column of images" in line and "--tokenizer ..." in line
    line = refused(*words, "--tokenizer", "nothing")
    assert "no such folder: nothing" in line and "--tokenizer ..." in line
    line = refused(*words, "max_tokens=6")
    assert "max_tokens is for texts" in line and "--tokenizer ..." in line
    code, _, err = offramp(*words, "max_tokens=6", "--tokenizer", "words")
    assert code == 0, err
    assert "texts have more than 6 tokens" in err
    result = result_of(folder / "run")
    for other in ((), ("--data", "reviews")):
        code, out, err = offramp("eval", "run", "--net", "mine.py:bert", *other, "--json")
        assert code == 0, err
        assert json.loads(out)["exits"] == result["exits"]
    net = ("--net", "mine.py:bert")
    code, _, err = offramp("calibrate", "run", *net, "--budget", "100%", "--out", "policy.json")
    assert code == 0, err
    for json_flag in ((), ("--json",)):  # texts of other lengths than the example, which is counted
        code, out, err = offramp("eval", "run", *net, "--policy", "policy.json", *json_flag)
        assert code == 0, err
        assert json.loads(out)["flops"] is None if json_flag else "FLOPs differ with the size" in out
    words = ("report", "run", "--net", "mine.py:bert", "--out", "r.html", "--batches", 1, "--no-times")
    code, _, err = offramp(*words)
    assert code == 0, err
    page = (folder / "r.html").read_text()
    assert "no pictures of dfs: the samples are no images" in page and "Exits taken" in page
    (folder / "words").rename("moved")
    line = refused("eval", "run", "--net", "mine.py:bert")
    assert "no such folder" in line and "--set tokenizer=..." in line
    code, out, err = offramp("eval", "run", "--net", "mine.py:bert", "--set", "tokenizer=moved")
    assert code == 0, err
    words = ("train", "--resume", "--out", "run", "--net", "mine.py:bert", "--tokenizer", "moved")
    code, out, err = offramp(*words)
    assert code == 0, err
    assert result_of(folder / "run") == result
    line = refused(*words, "--set", "max_tokens=5")
    assert "run with another data" in line and "'max_tokens': 5" in line
