"""NYUv2 in the layout of MTAN: ``{train,val}/{image,label,depth,normal}/<number>.npy``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offramp.data._dense_maps import dense_sample
from offramp.data._dense_rows import DenseRows, DenseSample
from offramp.data._files import hidden, open_regular
from offramp.errors import UserError

__all__ = ["NpyRows", "holds_npy"]

FOLDERS = {"image": "image", "segmentation": "label", "depth": "depth", "normals": "normal"}
LAYOUT = "image/, label/, depth/ and normal/ with a file <number>.npy each for every sample"


def holds_npy(folder: Path) -> bool:
    """Whether a split's folder has subfolders of such names, with such files."""
    return any(_files(folder / name) for name in FOLDERS.values())


class NpyRows(DenseRows):
    """The samples under one split's folder, in the order of their numbers.

    Args:
        folder: E.g. ``.../train``.

    Raises:
        UserError: A folder or a file of a sample is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = {name: _files(folder / name) for name in FOLDERS.values()}
        for name, found in files.items():
            if not found:
                raise UserError(f"{folder} has no {name}/*.npy; NYUv2 has {LAYOUT}")
        everything = set().union(*files.values())
        for name, found in files.items():
            if missing := everything - found:
                first = min(missing, key=_by_number)
                raise UserError(
                    f"{folder / name / first} is missing ({len(missing)} of {len(everything)} files there); "
                    f"add it, or remove the sample from the other folders"
                )
        self._names = sorted(everything, key=_by_number)

    def __len__(self) -> int:
        return len(self._names)

    def sample(self, row: int) -> DenseSample:
        """Read the four files of a sample.

        Raises:
            UserError: One is damaged, or holds something else.
        """
        paths = {key: self._folder / name / self._names[row] for key, name in FOLDERS.items()}
        return dense_sample(
            {key: _read(path) for key, path in paths.items()}, {key: str(path) for key, path in paths.items()}
        )

    def location(self, row: int) -> str:
        """The image of a sample."""
        return str(self._folder / "image" / self._names[row])


def _files(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.suffix == ".npy" and not hidden(path)}


def _by_number(name: str) -> tuple[int, str]:
    """A key that sorts ``10.npy`` behind ``9.npy``."""
    return len(name), name


def _read(path: Path) -> np.ndarray:
    try:
        with open_regular(path) as file:
            array = np.load(file, allow_pickle=False)
            if isinstance(array, np.ndarray):
                return array
            reason = "it is an archive of arrays"
    except Exception as error:  # of the file system, the header, the archive that it may be, or its pickles
        reason = getattr(error, "strerror", None) or "it is no whole array of numbers"
    raise UserError(f"{path}: cannot read it ({reason}); fetch or make it again")
