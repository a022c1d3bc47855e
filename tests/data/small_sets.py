"""Images and parquet files in the layouts that are read, made on the spot."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from offramp import UserError
from offramp.data import open_data


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise(count: int, *, size: tuple[int, int] = (8, 8), seed: int = 0) -> np.ndarray:
    """uint8 ``[count, H, W, 3]``."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def write_parquet(
    file: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    *,
    names: Sequence[str] | None = ("cat", "dog", "emu"),
    image_column: str = "image",
    label_column: str = "label",
    more: dict[str, Sequence[int]] | None = None,
) -> Path:
    """A file as `datasets` writes it: encoded images, ClassLabel names in the schema's metadata."""
    structs = [None if content is None else {"bytes": content, "path": None} for content in images]
    columns = {
        image_column: pa.array(structs, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        label_column: pa.array(labels, pa.int64()),
    }
    features: dict[str, object] = {image_column: {"_type": "Image"}}
    features[label_column] = (
        {"names": list(names), "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    )
    for name, values in (more or {}).items():
        columns[name] = pa.array(values, pa.int64())
        features[name] = {"names": ["x", "y"], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), file)
    return file


def refused(
    words: Sequence[object], *arguments: Any, use: Callable[..., Any] = open_data, **keywords: Any
) -> str:
    """Check that the call fails with one line of some hundred characters that has these words, in order."""
    with pytest.raises(UserError) as caught:
        use(*arguments, **keywords)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 900, line
    assert re.search(".*".join(re.escape(str(word)) for word in words), line), line
    return line
