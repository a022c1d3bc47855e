"""`offramp export --layout triton` writes a model repository in place of a bundle."""

import json

from offramp.exits import Policy


def test_a_run_becomes_a_repository(runs, offramp, refused, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(Policy([None, None, 0.4, None, None]).to_json())
    out = tmp_path / "models"
    words = ("export", runs / "joint", "--policy", policy, "--layout", "triton", "--out", out)
    code, told, err = offramp(*words, "--json")
    assert code == 0, err
    document = json.loads(told)
    assert document["models"] == ["vgg7-width-4", "vgg7-width-4-thresholds"]
    assert document["repository"] == str(out)
    assert {path.name for path in out.iterdir()} == {*document["models"]}
    text = (out / "vgg7-width-4" / "config.pbtxt").read_text()
    assert "data_type: TYPE_UINT8\n  dims: [ 3, 32, 32 ]" in text
    assert [path.name for path in tmp_path.glob(".*")] == []  # nothing else is left
    assert "is there already" in refused(*words)


def test_a_repository_of_8_bits_tells_the_policy_that_was_fitted_to_them(
    runs, offramp, tmp_path, monkeypatch
):
    """The export itself is a stand-in: what it writes has thresholds of its own."""
    fitted = Policy([None, None, 0.7, None, None])

    def write(net, policy, out, *, precision):
        assert precision == "int8"
        (out / "net").mkdir(parents=True)
        (out / "net" / "policy.json").write_text(fitted.to_json())
        return ["net"]

    monkeypatch.setattr("offramp.bundles.export_repository", write)
    (tmp_path / "policy.json").write_text(Policy([None, None, 0.4, None, None]).to_json())
    words = ("export", runs / "joint", "--policy", tmp_path / "policy.json", "--precision", "int8")
    code, told, err = offramp(*words, "--layout", "triton", "--out", tmp_path / "models", "--json")
    assert code == 0, err
    assert json.loads(told)["exits"][2]["threshold"] == 0.7
