"""Sweep files: what a sweep is to train."""

from __future__ import annotations

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from junk import json_values, mutated, texts
from oracle import command, examples, works

from offramp.sweeps.file import read_sweep

SWEEP = {
    "data": "./nowhere",
    "net": "vgg7:width=2",
    "out": "runs/sweep",
    "seeds": [0, 1],
    "recipe": "paper",
    "epochs": 300,
    "lr": 0.05,
    "options": {"beta": 0.5},
    "methods": [
        "joint", {"method": "dfs", "own_to_shared": 1}, {"method": "dfs+ge", "dfs.scales": "all"},
        {"method": "kd", "weight_decay": 1e-4},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    before = os.getcwd()
    os.chdir(folder)  # whatever a sweep's folder is called
    yield folder / "sweep.yaml"
    os.chdir(before)


def write(file, content) -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))


contents = st.one_of(
    mutated(SWEEP, json_values, most=3),
    st.builds(
        "data: ./nowhere\nnet: vgg7:width=2\nout: {}\nseeds: {}\nmethods: {}\n".format,
        st.one_of(
            texts, st.sampled_from(["-x", "~nosuchuser/x", "a" * 300, "'a\\0b'", '"a\\0b"', ".", "/dev/null"])
        ),
        st.sampled_from(
            ["[0, 1]", "[0, 0x_]", "[true]", "[1, 1.0]", "1", "[1e3]", "[9999999999999999999999]", "[[0]]"]
        ),
        st.sampled_from(
            ["[joint]", "joint", "[{method: dfs, beta: !!int _}]", "[joint, joint]", "[*a]", "{a: b}"]
        ),
    ),
)


@examples(70)
@given(content=contents)
def test_files(file, content):
    write(file, content)
    plan = works(read_sweep, file)
    if plan is not None:
        works(str, plan)


@examples(20)
@given(
    content=contents,
    jobs=st.sampled_from(
        [
            [],
            ["--jobs", "0"],
            ["--jobs", "-1"],
            ["--lr", "1/0"],
            ["--lr", "nan,1"],
            ["--lr", "1e999"],
            ["--lr", "1/3,1"],
            ["--out", "-x"],
        ]
    ),
)
def test_on_the_command_line(file, content, jobs):
    """A set that is not there ends what can be read."""
    write(file, content)
    command("sweep", str(file), *jobs, notes=True)
