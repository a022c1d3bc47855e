from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from small_sets import noise, png, write_parquet


@pytest.fixture
def parquet_folder(tmp_path: Path) -> Path:
    """30 training and 9 test images of 8x8 in three classes."""
    for split, count in (("train", 30), ("test", 9)):
        pixels = noise(count, seed=count)
        write_parquet(tmp_path / f"{split}.parquet", [png(p) for p in pixels], [i % 3 for i in range(count)])
    return tmp_path


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes ``<split>/<class>/<i>.png`` with images of the given sizes."""

    def make(splits: dict[str, int], *, sizes: Sequence[tuple[int, int]] = ((8, 8),)) -> Path:
        for split, per_class in splits.items():
            for c, name in enumerate(("cat", "dog")):
                folder = tmp_path / split / name
                folder.mkdir(parents=True)
                for i in range(per_class):
                    pixels = noise(1, size=sizes[i % len(sizes)], seed=100 * c + i)[0]
                    (folder / f"{i}.png").write_bytes(png(pixels))
        return tmp_path

    return make
