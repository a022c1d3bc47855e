"""Files of a run folder that hold junk, or cannot be read: one line that names the file and a remedy."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from torch import nn
from unchecked import unchecked

from offramp import Recipe, Run, UserError, compare, fit
from offramp.runs import checkpoint
from offramp.runs._result_shape import check_result
from offramp.runs.record import as_json, read_record
from offramp.runs.result import Result
from offramp.runs.table import result_table
from offramp.runs.weights import load_weights, weights_bytes

DRAW = random.Random(0)
STATE = {"epoch": 1, "table": torch.arange(30.0), "rows": [{"loss": 1.5}]}


@pytest.fixture
def saved(tmp_path):
    return unchecked(checkpoint.save(tmp_path, nn.Linear(2, 2), STATE, step=3))


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def stored(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


JUNK = {
    "nothing": b"",
    "text": b"no checkpoint\n" * 40,
    "zeros": bytes(1000),
    "noise": DRAW.randbytes(5000),
    "a picture": b"\x89PNG\r\n\x1a\n" + DRAW.randbytes(100),
    "another archive": zipped("notes.txt", b"hello"),
    "an archive of noise": zipped("archive/data.pkl", DRAW.randbytes(100)),
    "a list": stored([1, 2]),
    "another dict": stored({"model": torch.zeros(2)}),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_for_a_state_is_called_damaged_and_no_code(saved, junk):
    (saved / "state.pt").write_bytes(junk)
    with pytest.raises(UserError, match=r"damaged or no checkpoint .*; restore it from a copy, or") as caught:
        checkpoint.load(saved, nn.Linear(2, 2))
    assert str(caught.value).startswith(f"{saved / 'state.pt'} is cut short")
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_of_a_state_passes_unseen(saved):
    """Its values are either the same, as where padding was hit, or refused."""
    good = (saved / "state.pt").read_bytes()
    refused = 0
    for _ in range(300):
        bad = bytearray(good)
        bad[DRAW.randrange(len(bad))] ^= 1 << DRAW.randrange(8)
        (saved / "state.pt").write_bytes(bad)
        try:
            found = checkpoint.load(saved, nn.Linear(2, 2))
        except UserError as error:
            refused += "\n" not in str(error)
        else:
            assert found["rows"] == STATE["rows"] and torch.equal(found["table"], STATE["table"])
            refused += 1
    assert refused == 300


@pytest.mark.parametrize("junk", [b"", bytes(1000), DRAW.randbytes(1000), b"\x08" + bytes(7) + b"{}      "])
def test_junk_for_weights(tmp_path, junk):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(junk)
    with pytest.raises(UserError, match=r"weights\.safetensors is .*") as caught:
        load_weights(nn.Linear(2, 2), path)
    assert "\n" not in str(caught.value)


def test_weights_of_a_kind_that_torch_lacks(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights_bytes(nn.Linear(2, 2)).replace(b'"F32"', b'"XYZ"'))
    with pytest.raises(UserError, match="no safetensors file"):
        load_weights(nn.Linear(2, 2), path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = Recipe(epochs=1, batch_size=8, augment="none")
    return fit(tiny_net(), tiny_data(), "joint", recipe, tmp_path_factory.mktemp("run") / "run", quiet=True)


@pytest.mark.parametrize("name", ["run.json", "result.json", "weights.safetensors"])
@pytest.mark.parametrize("spoil", ["folder", "permission", "nested"])
def test_what_cannot_be_read(run, tmp_path, monkeypatch, name, spoil):
    folder = tmp_path / "copy"
    unchecked(shutil.copytree(run.folder, folder))
    path = folder / name
    if spoil == "folder":
        path.unlink()
        path.mkdir()
    elif spoil == "nested":
        path.write_bytes(b"[" * 100_000)
    else:

        def denied(self, *args, original=Path.read_bytes):
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return original(self, *args)

        monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(UserError) as caught:
        Run.open(folder, tiny_net())
    line = str(caught.value)
    assert str(path) in line or name in line
    assert "\n" not in line
    assert line.count(str(path)) <= 1
    if spoil == "permission":
        assert line == f"cannot read {path}: Permission denied; fix the permissions"
    elif spoil == "folder" and name != "run.json":
        assert "it is a folder, not a file; restore it from a copy" in line


def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(UserError, match=f"cannot read {tmp_path}: Permission denied; fix the permissions"):
        Run.open(tmp_path)


JUNK_OF_CSV = {
    "nothing": b"",
    "no text": b"epoch,seconds\n1,\xff\n",
    "NUL": b"epoch,seconds\n1,\0\0\n",
    "a field too long for a table": b"epoch,seconds\n1," + b"9" * 200_000 + b"\n",
    "a number too large to be squared": b"epoch,seconds\n1,1e308\n",
    "a time of nothing": b"epoch,seconds\n1,nan\n",
    "a time below 0": b"epoch,seconds\n1,-1\n",
    "a word": b"epoch,seconds\n1,long\n",
    "a field more": b"epoch,seconds\n1,2,3\n",
    "a field less": b"epoch,seconds\n1\n",
    "the second epoch first": b"epoch,seconds\n2,3\n",
    "a column twice": b"epoch,seconds,seconds\n1,2,3\n",
    "a loss beyond everything": b"epoch,seconds,train_loss_1\n1,2,1e200\n",
}


@pytest.mark.parametrize("junk", JUNK_OF_CSV.values(), ids=JUNK_OF_CSV)
def test_a_damaged_log_is_said(run, tmp_path, junk):
    folder = tmp_path / "copy"
    unchecked(shutil.copytree(run.folder, folder))
    (folder / "metrics.csv").write_bytes(junk)
    with pytest.raises(UserError, match=r"metrics\.csv is damaged \(.*\); restore it .*delete it") as caught:
        compare([folder])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    (folder / "metrics.csv").unlink()
    assert compare([folder]).groups[0].seconds_per_epoch is None


ABSENT = object()
JUNK_OF_JSON = (None, "x", -1, [], {}, [1], {"a": 1}, ABSENT)
TOPS = [{"top1": 5.0, "top5": 6.0}] * 2
EXITS = {"exits": TOPS, "average_top1": 5.0, "ensemble_top1": 7.0}
OUTPUTS = {
    "outputs": {str(k): {"metrics": {"top1": 5.0}, "primary": "top1", "better": "higher"} for k in (1, 2)},
    "ensemble": {"top1": 7.0},
}


def places(content, inside=()):
    """Where a JSON value has values: paths of keys and positions, of a list the first."""
    items = content.items() if isinstance(content, dict) else [*enumerate(content)][:1]
    for key, value in items:
        yield (*inside, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*inside, key))


def spoilt(content, place, junk):
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if junk is ABSENT:
        del inner[place[-1]]
    else:
        inner[place[-1]] = junk
    return content


def results(run):
    head = {key: run.result[key] for key in ("net", "method", "data", "seed")}
    cost = {"params": 1, "flops": None}
    with_costs = {name: output | cost for name, output in OUTPUTS["outputs"].items()}
    exits = {**head, **EXITS, "exits": [top | cost for top in TOPS], "averaged_weights": EXITS}
    return exits, {**head, **OUTPUTS, "outputs": with_costs, "averaged_weights": OUTPUTS}


@pytest.mark.parametrize("kind", [0, 1], ids=["exits", "outputs"])
def test_junk_anywhere_in_a_result_is_a_line_or_a_table(run, tmp_path, kind):
    folder = tmp_path / "copy"
    unchecked(shutil.copytree(run.folder, folder))
    (folder / "average.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    good, refused = results(run)[kind], 0
    check_result(good, folder / "result.json")
    for content in (spoilt(good, place, junk) for place in places(good) for junk in JUNK_OF_JSON):
        try:
            check_result(content, folder / "result.json")
            result_table(Result.from_json(content))
        except UserError as error:  # noqa: PERF203
            refused += 1
            assert str(error).endswith("restore it from a copy, or train anew") and "\n" not in str(error)
    assert refused > 120
    for averaged in (
        None,
        [],
        {},
        spoilt(good["averaged_weights"], next(places(OUTPUTS if kind else EXITS)), {}),
    ):
        (folder / "result.json").write_text(json.dumps(good | {"averaged_weights": averaged}))
        for read in (lambda: Run.open(folder, tiny_net()), lambda: compare([folder])):
            with pytest.raises(UserError, match=r"'averaged_weights.* in its result.json"):
                read()


def test_outputs_named_with_digits_are_read_as_they_were_written(run, tmp_path):
    folder = tmp_path / "copy"
    unchecked(shutil.copytree(run.folder, folder))
    content = results(run)[1]
    del content["averaged_weights"]
    (folder / "result.json").write_bytes(as_json(content))
    result = Run.open(folder, tiny_net()).result
    assert [*result.outputs] == ["1", "2"] and result.delta_m(Result.from_json(content)) == 0


def test_numbers_that_are_keys_of_options_come_back_as_numbers(run, tmp_path):
    folder = tmp_path / "copy"
    unchecked(shutil.copytree(run.folder, folder))
    record = json.loads((folder / "run.json").read_text())
    record |= {"method": "mine", "options": {"channels": {"1": [{"2": 3}]}}, "notes": {"4": 5}}
    (folder / "run.json").write_text(json.dumps(record))
    read = read_record(folder)
    assert read["options"] == {"channels": {1: [{2: 3}]}} and read["notes"] == {"4": 5}


@pytest.mark.parametrize(
    ("key", "junk"),
    [
        ("input_size", []), ("input_size", [3, 8]), ("input_size", [3, 0, 8]), ("input_size", [1, 8, 8]),
        ("mean", []), ("mean", [0.5]), ("std", [0.5, 0.5]), ("std", []), ("text", {}), ("text", [1]),
    ],
)  # fmt: skip
def test_sizes_and_statistics_that_do_not_fit_each_other(run, tmp_path, key, junk):
    folder = tmp_path / "copy"
    unchecked(shutil.copytree(run.folder, folder))
    record = json.loads((folder / "run.json").read_text())
    record["normalisation" if key in ("mean", "std") else "data"][key] = junk
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"in its run\.json.*restore it from a copy, or train anew"):
        Run.open(folder, tiny_net())
