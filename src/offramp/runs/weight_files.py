"""Files of weights, whoever wrote them: tensors by name, read without running code."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from offramp.checks import path_of
from offramp.errors import UserError, an_object, error_text, shown
from offramp.paths import kind_of
from offramp.runs import checkpoint
from offramp.runs._checksums import checksum
from offramp.runs.files import read_bytes, read_errors
from offramp.runs.record import is_run, read_record, read_result

__all__ = ["WeightFile", "read_weights", "weight_file"]

# Under which names training programs keep a state_dict among other things.
ENTRIES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# First bytes of files that people have at hand, and what these are.
KINDS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of NumPy",
    b"PAR1": "a Parquet file",
}
LONGEST_HEADER = 100_000_000  # bytes, of safetensors
EXPECTED = "give a finished run, a safetensors file, or one that torch.save wrote, as init"
SAVE = "save the weights alone, by torch.save(model.state_dict(), path)"


@dataclass(frozen=True)
class WeightFile:
    """Content of a file of weights.

    Attributes:
        source: The run folder or file that was given, by its full path.
        digest: SHA-256 of the file.
        tensors: The weights by their names in it.
    """

    source: str
    digest: str
    tensors: Mapping[str, Tensor]


def weight_file(source: object) -> Path:
    """The file that holds the weights of a source, which need not be read for that.

    Args:
        source: Folder of a finished run; or a file.

    Raises:
        UserError: No such file, or the folder is no run, or the run is not finished, or has several networks.
    """
    path = path_of("init", source, "a finished run, or of a file of weights")
    with read_errors(path):
        if not path.exists():
            raise UserError(f"there is no {path}; give a finished run, or a file of weights, as init")
        if path.is_file():
            return path
        if not path.is_dir():
            kind = kind_of(path.stat().st_mode)
            raise UserError(
                f"cannot read {path}: it is {kind}, not a file; give a finished run, or a file of weights, "
                "as init"
            )
        if not is_run(path):
            files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
            example = [*files, path / "model.safetensors"][0]
            raise UserError(f"{path} is a folder and no run; give a file of weights, e.g. {example}")
    if not (path / "result.json").exists():
        last = checkpoint.last(path)
        instead = "" if last is None else f", or give its last weights, {last / 'weights.safetensors'}"
        raise UserError(f"the run in {path} is not finished; finish it before others start from it{instead}")
    record = read_record(path)
    read_result(path, record)
    if record["method"] == "separate":
        raise UserError(
            f"the run in {path} has a network for each output, by 'separate', and init takes one network; "
            "give a run of another method, e.g. of 'joint'"
        )
    return path / "weights.safetensors"


def read_weights(source: object) -> WeightFile:
    """Read a source of weights.

    Args:
        source: Folder of a finished run; a safetensors file; or a file that torch.save wrote, which holds a
            ``state_dict``, or has one among other plain values under a usual name such as ``model``.

    Raises:
        UserError: As :func:`weight_file`; or the file cannot be read, is damaged, holds no weights or none
            with values, or objects that could run code.
    """
    path = weight_file(source)
    data = read_bytes(path)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= LONGEST_HEADER:
        tensors = _of_safetensors(data, path)
    elif data.startswith((b"PK", b"\x80")):  # an archive; or a pickle, as torch wrote before 1.6
        tensors = _of_torch(data, path)
    else:
        raise UserError(f"{path} is {_kind(data)}; {EXPECTED}")
    if not tensors:
        raise UserError(f"{path} holds no weights; {SAVE}")
    if empty := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise UserError(f"{path} holds {empty[0]} without its values, on device meta; give a file with them")
    run_or_file = path_of("init", source, "weights").expanduser().resolve()
    return WeightFile(str(run_or_file), checksum(data), tensors)


def _kind(data: bytes) -> str:
    """What a file is that holds no weights, as far as its bytes tell."""
    if not data:
        return "empty"
    if known := [kind for start, kind in KINDS.items() if data.startswith(start)]:
        return f"{known[0]}, and no file of weights"
    try:
        text = data.decode().find("\0") < 0
    except UnicodeDecodeError:
        text = False
    return f"{'text' if text else 'damaged, or of another kind'}, and no file of weights"


def _of_safetensors(data: bytes, path: Path) -> Mapping[str, Tensor]:
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch lacks
        raise UserError(
            f"{path} is cut short or no safetensors file ({error_text(error)}); get a whole one"
        ) from None


def _of_torch(data: bytes, path: Path) -> Mapping[str, Tensor]:
    try:
        if zipfile.is_zipfile(file := io.BytesIO(data)):
            with zipfile.ZipFile(file) as archive:  # whose checksums torch.load ignores
                if not any(name.endswith("data.pkl") for name in archive.namelist()):
                    raise UserError(f"{path} is an archive, and no file of weights; {EXPECTED}")
                if broken := archive.testzip():
                    raise ValueError(f"{broken} has another checksum")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of other kinds; the error says it
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError:  # which torch raises at the first bytes of other files too
        raise UserError(
            f"{path} holds more than weights and could run code, or is no file of torch.save: not read; "
            f"{SAVE}, and give that file"
        ) from None
    except Exception as error:  # bytes at random raise errors of many kinds
        reason = error_text(error).partition(". ")[0]
        raise UserError(
            f"{path} is cut short, damaged or no file of weights ({reason}); get a whole one"
        ) from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> Mapping[str, Tensor]:
    """The weights in what torch.load gave.

    Raises:
        UserError: There are none, or several.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds {an_object(content)} and no weights by name; {SAVE}")
    found = [key for key in ENTRIES if _has_tensors(content.get(key))]
    if len(found) > 1:
        raise UserError(f"{path} holds weights under {' and '.join(found)}; {SAVE}, those that are meant")
    state = content[found[0]] if found else content
    others = [k for k, value in state.items() if not (isinstance(value, Tensor) and isinstance(k, str))]
    if not _has_tensors(state) or not all(str(key).endswith("_extra_state") for key in others):
        raise UserError(
            f"{path} holds {shown([*state])} and no weights by name, nor any under "
            f"{', '.join(ENTRIES[:-1])} or {ENTRIES[-1]}; {SAVE}"
        )
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(each, Tensor) for each in value.values())
