"""Where a benchmark's figures go: checked before anything is measured, written by one rename."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _machine import machine

__all__ = ["result_file", "write_json", "write_result"]


def result_file(text: str) -> Path:
    """The value of ``--out``, for argparse: minutes of measuring must not end in a file that cannot be."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; name a file in it: {path / 'result.json'}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written; choose another file")
    return path


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file that is complete whenever it is there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(values, indent=1) + "\n")
    draft.replace(path)


def write_result(path: Path | None, settings: argparse.Namespace | Mapping[str, Any], **found: Any) -> None:
    """Write the machine, how it was measured and what was found; without a path, nothing.

    May be called again and again while figures come in: what is there is then what has been measured so far.
    """
    if path is None:
        return
    values = vars(settings) if isinstance(settings, argparse.Namespace) else settings
    plain = {key: value for key, value in values.items() if not isinstance(value, Path) and key != "out"}
    write_json(path, {"machine": machine(), "settings": plain, **found})
