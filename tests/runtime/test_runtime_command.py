"""The command offramp-runtime, in a process of its own where exit codes count."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from offramp_runtime._command import main
from PIL import Image
from tiny_bundles import ImageNet, WordNet, write_bundle, write_json, write_sums


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("command") / "bundle", ImageNet())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place in range(3):
        Image.fromarray(draws.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(folder / f"{place}.png")
    return sorted(folder.iterdir())


def run(capsys, *words):
    code = main([*map(str, words)])
    said = capsys.readouterr()
    assert said.err.count("\n") == (1 if code else 0)
    return code, said.out, said.err


def test_check_tells_what_the_bundle_is_and_finds_damage(capsys, bundle, tmp_path):
    code, out, _ = run(capsys, "check", bundle)
    assert code == 0
    for part in ("tiny, fp32; every file is as it was written", "images uint8 [3, 6, 6]", "4 classes",
                 "exit 2: 200 operations", "all graphs say the same"):  # fmt: skip
        assert part in out
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    (damaged / "weights.bin").write_bytes(b"x")
    code, _, err = run(capsys, "check", damaged)
    assert (code, err.count("weights.bin was changed")) == (2, 1)


def test_check_finds_graphs_that_disagree(capsys, bundle, tmp_path):
    other = ImageNet()
    other.weights["head2"] = 2 * other.weights["head2"]
    write_bundle(tmp_path / "other", other)
    mixed = shutil.copytree(bundle, tmp_path / "mixed")
    shutil.copy(tmp_path / "other" / "weights.bin", mixed / "weights2.bin")
    graph = (tmp_path / "other" / "stage2.onnx").read_bytes()
    (mixed / "stage2.onnx").write_bytes(graph.replace(b"weights.bin", b"weightz.bin"))
    (mixed / "weights2.bin").rename(mixed / "weightz.bin")
    write_sums(mixed)
    code, _, err = run(capsys, "check", mixed)
    assert code == 2
    assert "the graphs disagree at exit 2" in err


def test_check_of_inputs_of_free_lengths(capsys, tmp_path):
    code, out, _ = run(capsys, "check", write_bundle(tmp_path / "words", WordNet(), costs=False))
    assert code == 0
    assert "words int64 [any]" in out
    assert "exit 1: unknown operations" in out
    manifest = json.loads((tmp_path / "words" / "manifest.json").read_text())
    for each in manifest["inputs"]:
        each["shape"] = [2**50]
    write_json(tmp_path / "words" / "manifest.json", manifest)
    write_sums(tmp_path / "words")
    code, _, err = run(capsys, "check", tmp_path / "words")
    assert (code, "do not fit into the memory" in err) == (2, True)


def test_the_folder_of_a_run_is_no_bundle(capsys, tmp_path):
    (tmp_path / "run.json").touch()
    (tmp_path / "SHA256SUMS").touch()
    (tmp_path / "checkpoint").mkdir()
    code, _, err = run(capsys, "check", tmp_path)
    assert (code, "is no bundle: it has no manifest.json" in err) == (2, True)


def test_predict_names_class_confidence_and_exit(capsys, bundle, photos):
    code, out, _ = run(capsys, "predict", bundle, *photos)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*map(str, photos)]
    code, out, _ = run(capsys, "predict", bundle, *photos, "--json", "--threshold", "0")
    document = json.loads(out)
    assert code == 0
    assert [each["exit"] for each in document["predictions"]] == [1, 1, 1]
    assert document["predictions"][0].keys() == {"image", "class", "confidence", "exit", "cost"}


def test_predict_goes_on_past_files_that_cannot_be_read(capsys, bundle, photos, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    code, out, err = run(capsys, "predict", bundle, photos[0], tmp_path / "no.png", photos[1])
    assert code == 2
    assert len(out.splitlines()) == 2
    assert "1 of 3 images cannot be read" in err
    code, out, err = run(capsys, "predict", bundle, tmp_path / "no.png")
    assert (code, out) == (2, "")
    assert "no.png: cannot decode the image" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice"),
        (["check"], "required: BUNDLE"),
        (["check", "nowhere"], "cannot read the bundle nowhere"),
        (["check", "{}", "--threads", "0"], "threads is 0"),
        (["check", "{}", "--threads", "many"], "invalid int"),
        (["predict", "{}"], "required: IMAGE"),
        (["predict", "{}", "none.png"], "No such file"),
        (["predict", "{}", "none.png", "--threshold", "high"], "invalid float"),
        (["predict", "{}", "a\nb.png"], "a b.png: cannot read"),
    ],
)
def test_mistakes_are_one_line(capsys, bundle, words, says):
    code, out, err = run(capsys, *(word.format(bundle) for word in words))
    assert (code, out) == (2, "")
    assert says in err


def test_the_program_is_a_module(bundle):
    done = subprocess.run(
        [sys.executable, "-m", "offramp_runtime", "check", str(bundle)], capture_output=True, text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(bundle))


def test_an_answer_that_the_disk_has_no_room_for_is_told_in_a_line(bundle):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "offramp_runtime", "check", str(bundle)],
            stdout=full,
            stderr=subprocess.PIPE,
        )
    said = b"offramp-runtime: cannot write stdout: No space left on device; make room\n"
    assert (done.returncode, done.stderr) == (2, said)
