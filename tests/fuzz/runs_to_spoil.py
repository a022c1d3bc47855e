"""A run to spoil, made once by the command line; and files of its copies that hold something else."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from offramp.cli import main

WORDS = ["train", "--data", "digits", "--net", "vgg7:width=2", "--method", "dfs", "--epochs", "1", "--set"]
WORDS += [
    "train_limit=40",
    "test_limit=20",
    "batch_size=8",
    "average=0.9",
    "schedule=constant",
    "augment=none",
]


def finished(folder: Path) -> Path:
    """A run of four steps, which more epochs extend."""
    assert main([*WORDS, "--out", str(folder)]) == 0
    return folder


def renewed(folder: Path, good: Path) -> Path:
    """The folder holds a fresh copy of a good run."""
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(good, folder)


def put(path: Path, content: bytes) -> None:
    """Write a file and its checksum, so that only what it says can be wrong."""
    path.write_bytes(content)
    sums = path.parent / "SHA256SUMS"
    if sums.exists():
        kept = [line for line in sums.read_text().splitlines() if line.split("  ", 1)[1] != path.name]
        kept.append(f"{hashlib.sha256(content).hexdigest()}  {path.name}")
        sums.write_text("".join(f"{line}\n" for line in kept))
