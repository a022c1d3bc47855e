"""Records of a run: run.json, result.json and metrics.csv that are damaged, or readable and wrong."""

from __future__ import annotations

import csv
import io
import json
import math

from hypothesis import given
from hypothesis import strategies as st
from junk import json_values, mutated, spoilt, texts
from oracle import command, examples, works
from runs_to_spoil import put, renewed

from offramp import Run, compare
from offramp.runs.record import read_record


def as_bytes(content) -> bytes:
    return json.dumps(content).encode()


def read(folder):
    """All that reads a finished run's records, without its data."""
    read_record(folder)
    Run.open(folder).table()
    return compare([folder]).table()


def finite(text: str) -> None:
    """No table shows a metric that is no number."""
    assert not {"nan", "inf", "-inf"} & {*text.lower().split()}, text


def looked_at(folder):
    """The records are refused, or read to a table of numbers."""
    table = works(read, folder)
    if table is not None:
        finite(table)


@examples(125)
@given(data=st.data(), name=st.sampled_from(["run.json", "run.json", "result.json"]))
def test_content(good, folder, data, name):
    renewed(folder, good)
    content = data.draw(mutated(json.loads((good / name).read_text()), json_values))
    put(folder / name, as_bytes(content))
    looked_at(folder)


NUMBERS = st.one_of(
    st.floats(), st.integers(-2, 5), st.sampled_from([0.0, -0.0, 1e-320, 1e30, 1e308, 10**30, True, [], None])
)


@examples(40)
@given(data=st.data())
def test_numbers(good, folder, data):
    """Other numbers in the places of numbers; JSON has words for those that are none."""
    renewed(folder, good)
    name = data.draw(st.sampled_from(["run.json", "result.json"]))
    put(folder / name, as_bytes(data.draw(mutated(json.loads((good / name).read_text()), NUMBERS, most=1))))
    looked_at(folder)
    out = command("eval", str(folder), "--json", notes=True)
    if out is not None:
        assert all(math.isfinite(value) for value in numbers_in(json.loads(out))), out


def numbers_in(content):
    """Every number of a nested value."""
    if isinstance(content, dict):
        content = [*content.values()]
    if isinstance(content, list):
        return [number for inner in content for number in numbers_in(inner)]
    return [content] if isinstance(content, float) else []


@examples(40)
@given(data=st.data(), name=st.sampled_from(["run.json", "result.json", "weights.safetensors", "SHA256SUMS"]))
def test_bytes(good, folder, data, name):
    """Whatever is changed, nothing but the good run's table comes out."""
    renewed(folder, good)
    content = (good / name).read_bytes() if (good / name).exists() else b""
    (folder / name).write_bytes(changed := data.draw(spoilt(content)))
    table = works(read, folder)
    assert table is None or table == read(good) or changed == content


SHAPES = ("folder", "loop", "fifo", "device", "gone", "dangling", "denied")


@examples(20)
@given(
    name=st.sampled_from(["run.json", "result.json", "metrics.csv", "weights.safetensors", "SHA256SUMS"]),
    what=st.sampled_from(SHAPES),
)
def test_what_is_no_file(good, folder, name, what):
    import os

    renewed(folder, good)
    path = folder / name
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "denied":
        path.touch(0o000)
    elif what != "gone":
        path.symlink_to({"loop": name, "device": "/dev/zero", "dangling": "nowhere"}[what])
    looked_at(folder)
    command("eval", str(folder), notes=True)


@examples(35)
@given(data=st.data())
def test_metrics(good, folder, data):
    renewed(folder, good)
    rows = list(csv.reader((good / "metrics.csv").read_text().splitlines()))
    cells = st.one_of(
        texts, st.sampled_from(["nan", "inf", "1e308", "-1e308", "1e999", "x" * 200_000, '"', "\0", ""])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(cells)
    if data.draw(st.booleans()):
        rows.append(data.draw(st.lists(cells, max_size=20)))
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    content = file.getvalue().encode(errors="surrogatepass")
    put(folder / "metrics.csv", data.draw(spoilt(content)) if data.draw(st.booleans()) else content)
    looked_at(folder)
