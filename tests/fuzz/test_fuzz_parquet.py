"""Data sets in Parquet files: other schemas, other metadata, other bytes."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from junk import json_values, mutated, spoilt, texts
from oracle import command, examples, works
from PIL import Image
from pyarrow import parquet

from offramp.data import Transform, open_data

ROWS = 12


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


IMAGES = [png(np.full((8, 8, 3), 20 * row, np.uint8)) for row in range(ROWS)]
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})
STRUCTS = [{"bytes": content, "path": None} for content in IMAGES]
LABELS = [row % 3 for row in range(ROWS)]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "emu"], "_type": "ClassLabel"}}
METADATA = {"info": {"features": FEATURES}}

# what stands in a cell of the images
odd_images = st.sampled_from([
    None, b"", b"no image", IMAGES[0][:40], IMAGES[0][:-8], png(np.zeros((8, 9, 3), np.uint8)),
    png(np.zeros((8, 8), np.uint8)), png(np.zeros((8, 8, 4), np.uint8)), png(np.zeros((8, 8), np.uint16)),
    png(np.zeros((1, 1, 3), np.uint8)), png(np.zeros((8, 8, 3), np.uint8), "GIF"),
    png(np.zeros((8, 8, 3), np.uint8), "BMP"), b"\x89PNG\r\n\x1a\n" + bytes(50), b"<svg/>",
    b"GIF89a" + bytes(20), IMAGES[0][:16] + (2**31 - 1).to_bytes(4, "big") * 2 + IMAGES[0][24:],
])  # fmt: skip
odd_labels = st.one_of(
    st.sampled_from([None, -1, -2, 3, 255, 10**5, 2**31, 2**31 - 1, -(2**63), 2**63 - 1]), st.integers(-3, 5)
)


@st.composite
def image_columns(draw):
    """A column of images, in one of the ways that they are stored, or in none."""
    kind = draw(
        st.sampled_from(
            ["struct"] * 4 + ["bytes", "path", "no bytes", "text", "int", "list", "empty", "null"]
        )
    )
    rows = list(STRUCTS)
    for row in draw(st.lists(st.integers(0, ROWS - 1), max_size=2)):
        rows[row] = draw(
            st.one_of(
                st.none(), st.fixed_dictionaries({"bytes": odd_images, "path": st.one_of(st.none(), texts)})
            )
        )
    if kind == "struct":
        return pa.array(_storable(rows), STRUCT)
    if kind == "bytes":
        return pa.array([row and row["bytes"] for row in rows], pa.binary())
    if kind == "path":
        return pa.array([{"path": f"{row}.png"} for row in range(ROWS)])
    if kind == "no bytes":
        return pa.array([{"content": b"x"}] * ROWS)
    if kind == "text":
        return pa.array(["x"] * ROWS)
    if kind == "list":
        return pa.array([[[0, 1], [2, 3]]] * ROWS)
    return (
        pa.nulls(ROWS) if kind == "null" else pa.array([0] * ROWS) if kind == "int" else pa.array([{}] * ROWS)
    )


def _storable(rows):
    """Rows whose paths Arrow can store."""

    def text(path):
        return None if path is None else path.encode(errors="replace").decode()

    return [row and row | {"path": text(row["path"])} for row in rows]


@st.composite
def label_columns(draw):
    labels: list = list(LABELS)
    for row in draw(st.lists(st.integers(0, ROWS - 1), max_size=2)):
        labels[row] = draw(odd_labels)
    kinds = [pa.int64()] * 4 + [
        pa.int32(),
        pa.uint8(),
        pa.int8(),
        pa.float64(),
        pa.string(),
        pa.bool_(),
        pa.decimal128(20),
        pa.date32(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.list_(pa.int64()),
        pa.binary(),
    ]
    kind = draw(st.sampled_from(kinds))
    try:
        if pa.types.is_floating(kind):
            return pa.array([draw(st.floats()) if label is None else label for label in labels], kind)
        if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            words = st.sampled_from(["", "cat", "\n", "a\0", "x" * 5000])
            return pa.array([str(x) if x in LABELS else draw(words) for x in labels], kind)
        if pa.types.is_list(kind):
            return pa.array([[x] for x in labels], kind)
        if pa.types.is_binary(kind):
            return pa.array([b"\xff"] * ROWS, kind)
        return pa.array(labels, kind)
    except (OverflowError, pa.ArrowException):
        return pa.array(labels, pa.int64())


metadata = st.one_of(
    st.just(METADATA),
    mutated(METADATA, json_values),
    st.sampled_from([b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"info": 3}', b"[" * 5000, b"1" * 5000]),
    st.builds(
        lambda names: {"info": {"features": FEATURES | {"label": {"names": names, "_type": "ClassLabel"}}}},
        st.one_of(json_values, st.lists(json_values, min_size=3, max_size=3)),
    ),
)
names = st.one_of(
    st.sampled_from(["image", "img", "label", "labels", "fine_label", "pixels", ""]), texts
).map(lambda text: text.encode(errors="replace").decode())


@st.composite
def files(draw):
    """The bytes of a Parquet file."""
    columns = [("image", draw(image_columns())), ("label", draw(label_columns()))]
    if draw(st.booleans()):
        columns.append((draw(names), draw(st.one_of(image_columns(), label_columns()))))
    if draw(st.integers(0, 5)) == 0:
        columns[draw(st.integers(0, 1))] = (draw(names), columns[draw(st.integers(0, 1))][1])
    found = draw(metadata)
    found = found if isinstance(found, bytes) else json.dumps(found).encode()
    schema = pa.schema([(name, column.type) for name, column in columns], {"huggingface": found})
    rows = draw(st.sampled_from([ROWS] * 6 + [0, 1]))
    buffer = io.BytesIO()
    try:
        parquet.write_table(pa.table([c for _, c in columns], schema=schema).slice(0, rows), buffer)
    except (pa.ArrowException, UnicodeEncodeError, ValueError):  # what no one can write
        return b"PAR1"
    content = buffer.getvalue()
    return draw(spoilt(content)) if draw(st.integers(0, 5)) == 0 else content


GOOD = io.BytesIO()
parquet.write_table(
    pa.table({"image": pa.array(STRUCTS, STRUCT), "label": LABELS}).replace_schema_metadata(
        {"huggingface": json.dumps(METADATA)}
    ),
    GOOD,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parquet")


def looked_at(folder, **settings):
    """A set that is opened gives its samples, and as many classes as labels can name."""
    data = open_data(folder, val_fraction=0.2, **settings)
    for split in (data.train, data.val, data.test):
        for batch in split.batches(4, transform=Transform((), ()), device="cpu") if len(split) else ():
            assert len(batch) > 0
    for target in data.targets.values():
        assert all(isinstance(name, str) for name in target.classes or ())


settings = st.sampled_from(
    [
        {},
        {},
        {"size": 4},
        {"label": "label"},
        {"ignore_label": -1},
        {"classes": 3},
        {"image": "image", "channels": 1},
        {"tasks": "a:label"},
    ]
)


@examples(125)
@given(train=files(), test=st.one_of(st.just(GOOD.getvalue()), files()), how=settings)
def test_sets(folder, train, test, how):
    (folder / "train.parquet").write_bytes(train)
    (folder / "test.parquet").write_bytes(test)
    works(looked_at, folder, **how)


@examples(10)
@given(train=files())
def test_training(folder, tmp_path_factory, train):
    """What is trained can be opened again."""
    (folder / "train.parquet").write_bytes(train)
    (folder / "test.parquet").write_bytes(GOOD.getvalue())
    out = str(tmp_path_factory.mktemp("runs") / "run")
    words = ["--epochs", "1", "--set", "batch_size=4", "val_fraction=0.2", "augment=none"]
    if command(
        "train",
        "--data",
        str(folder),
        "--net",
        "vgg_sdn:width=1",
        "--method",
        "joint",
        "--out",
        out,
        *words,
        notes=True,
    ):
        assert command("eval", out, notes=True)
