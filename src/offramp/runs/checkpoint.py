"""Checkpoints of a run on disk: the last good one is there at every moment.

``checkpoint/epoch-00003-step-0000017/`` holds ``weights.safetensors``, ``state.pt`` and ``SHA256SUMS``. A new
one appears by one rename, complete; only then are the older ones deleted. The latest one counts, whatever
happens between.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offramp.errors import UserError
from offramp.runs.files import (
    RESTORE,
    SHA256SUMS,
    disk_errors,
    read_bytes,
    read_errors,
    say_if_unchecked,
    write_folder,
)
from offramp.runs.weights import load_weights, weights_bytes

__all__ = ["fitting", "folder_name", "last", "load", "save"]

_NAME = re.compile(r"epoch-(\d+)-step-(\d+)$")


def folder_name(epoch: int, step: int) -> str:
    """Name of the folder of a checkpoint after so many whole epochs and steps of the next one."""
    return f"epoch-{epoch:05d}-step-{step:07d}"


def save(run: Path, net: nn.Module, state: dict[str, Any], *, step: int) -> Path:
    """Write a checkpoint, then delete the older ones.

    Args:
        run: The run folder.
        net: The net whose weights are kept.
        state: Plain values and tensors; its ``epoch`` (whole ones done) goes into the name.
        step: Number of steps done in this epoch, which goes into the name too.

    Returns:
        Its folder.

    Raises:
        UserError: The disk is full or not writable; the older checkpoint stays.
    """
    folder = run / "checkpoint" / folder_name(state["epoch"], step)
    if not folder.exists():  # one of the same step is the same checkpoint
        with disk_errors(folder):
            folder.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_folder(folder, {"weights.safetensors": weights_bytes(net), "state.pt": buffer.getvalue()})
    with disk_errors(folder.parent):
        for old in folder.parent.iterdir():
            if old != folder and old.name.lstrip(".").startswith("epoch-"):
                shutil.rmtree(old)
    return folder


def last(run: Path) -> Path | None:
    """The folder of the latest checkpoint, or None."""
    folders = {}
    with read_errors(run / "checkpoint"):
        if (run / "checkpoint").is_dir():
            for folder in (run / "checkpoint").iterdir():
                if match := _NAME.match(folder.name):
                    folders[int(match[1]), int(match[2])] = folder
    return folders[max(folders)] if folders else None


def load(folder: Path, net: nn.Module) -> dict[str, Any]:
    """Put a checkpoint's weights into the net and return its state, on the CPU.

    Raises:
        UserError: A file cannot be read, is damaged, no checkpoint, of another network, or would run code.
    """
    path = folder / "state.pt"
    data = read_bytes(path)
    if (folder.parent.parent / SHA256SUMS).exists():  # which older versions did not write
        say_if_unchecked(folder)
    try:
        state = _state(data)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than plain values and could run code: not read; {RESTORE}"
        ) from None
    except Exception as error:  # bytes at random raise errors of many kinds
        reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
        raise UserError(f"{path} is cut short, damaged or no checkpoint ({reason}); {RESTORE}") from None
    load_weights(net, folder / "weights.safetensors")
    return state


def _state(data: bytes) -> dict[str, Any]:
    """The state in a file that :func:`save` wrote, if its checksums are right, which torch.load ignores."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if broken := archive.testzip():
            raise ValueError(f"{broken} has another checksum")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about foreign files; the error says it
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "epoch" not in state:
        raise ValueError("it holds no state of a training")
    return state


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Turn what goes wrong as a checkpoint's state is put back into one line.

    Raises:
        UserError: The state is of another training: of other trained parameters, another optimiser, or what
            is no state at all.
    """
    try:
        yield
    except UserError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        reason = told.split("\n")[0]
        raise UserError(
            f"{folder / 'state.pt'} is of another training than this one ({reason}); freeze the same parts "
            "of the net as the run did, or train anew into another folder"
        ) from error
