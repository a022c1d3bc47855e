"""Texts become token ids: from every kind of source, cut and padded as their tokenizer does."""

import json
import sys

import datasets
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet
from tiny_texts import sentences, word_tokenizer, write_texts, write_tokenizer
from torch import Tensor

from offramp import UserError
from offramp.data import TextData, open_data


def batches(split, size: int, **options) -> list:
    return [*split.batches(size, transform=lambda batch, generator: batch, device="cpu", **options)]


def rows(split) -> list[list[int]]:
    """The real tokens of each text, in order."""
    found = []
    for batch in batches(split, 4):
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        found += [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]
    return found


TEXTS, LABELS = sentences(40)
PAIRS = [*zip(TEXTS, LABELS, strict=True)]


def columns(text: str = "text", label: str = "label") -> dict[str, list]:
    return {text: TEXTS, label: LABELS}


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_batches_are_those_of_the_tokenizer(padding_side):
    tokenizer = word_tokenizer(padding_side=padding_side)
    data = open_data(PAIRS, tokenizer=tokenizer, val_fraction=0)
    for number, batch in enumerate(batches(data.train, 7)):
        wanted = tokenizer(TEXTS[number * 7 : number * 7 + 7], padding=True, return_tensors="pt")
        assert batch.inputs.keys() == wanted.keys()
        assert all(torch.equal(batch.inputs[name], wanted[name]) for name in wanted)
        assert batch.targets["label"].tolist() == LABELS[number * 7 : number * 7 + 7]


def sources(tmp_path):
    table = pa.table(columns())
    (tmp_path / "hub" / "data").mkdir(parents=True)
    parquet.write_table(table.slice(0, 20), tmp_path / "hub" / "data" / "train-00000-of-00002.parquet")
    parquet.write_table(table.slice(20), tmp_path / "hub" / "data" / "train-00001-of-00002.parquet")
    parquet.write_table(table, tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    hub = datasets.Dataset.from_dict(columns())
    yield write_texts(tmp_path / "plain")
    for name in ("lines", "objects"):
        (tmp_path / name).mkdir()
    for split in ("train", "test"):
        csv.write_csv(table, tmp_path / "lines" / f"{split}.csv")
        rows = [json.dumps({"text": text, "label": label}) for text, label in PAIRS]
        (tmp_path / "objects" / f"{split}.jsonl").write_text("\n".join(rows))
    yield tmp_path / "lines"
    yield tmp_path / "objects"
    yield str(tmp_path / "hub")
    yield PAIRS
    yield (TEXTS, LABELS)
    yield {"train": PAIRS, "test": PAIRS}
    yield [{"text": text, "label": label} for text, label in PAIRS]
    yield hub
    yield datasets.DatasetDict({"train": hub, "test": hub})
    yield hub.with_format("numpy")
    yield hub.with_format("torch")


def test_every_source_gives_the_same_texts(tmp_path):
    tokenizer = word_tokenizer()
    wanted = tokenizer(TEXTS)["input_ids"]
    for source in sources(tmp_path):
        data = open_data(source, tokenizer=tokenizer, val_fraction=0)
        assert isinstance(data, TextData)
        assert rows(data.train) == wanted
        assert data.train.labels.tolist() == LABELS and data.num_classes == 2


def test_columns_by_name_and_labels_in_words(tmp_path):
    words = [("bad", "good")[label] for label in LABELS]
    table = {"number": [*range(40)], "review": TEXTS, "stars": words, "title": ["a"] * 40}
    for split in ("train", "test"):
        parquet.write_table(pa.table(table), tmp_path / f"{split}.parquet")
    with pytest.raises(UserError, match=r"no column of texts among number, review, stars, title.*`text="):
        open_data(tmp_path, tokenizer=word_tokenizer(), label="stars")
    data = open_data(tmp_path, tokenizer=word_tokenizer(), text="review", label="stars", val_fraction=0)
    assert data.classes == ("bad", "good") and data.train.labels.tolist() == LABELS
    for split in ("train", "test"):
        parquet.write_table(pa.table({"review": TEXTS, "label": words}), tmp_path / f"{split}.parquet")
    assert open_data(tmp_path, tokenizer=word_tokenizer(), val_fraction=0).train.labels.tolist() == LABELS


def test_long_texts_are_cut_by_the_tokenizer_and_it_is_said(tmp_path):
    write_texts(tmp_path)
    tokenizer = word_tokenizer()
    lengths = torch.tensor([len(row) for row in tokenizer(TEXTS)["input_ids"]])
    data = open_data(tmp_path, tokenizer=tokenizer, max_tokens=5, val_fraction=0)
    assert rows(data.train) == tokenizer(TEXTS, truncation=True, max_length=5)["input_ids"]
    tests = [len(row) for row in tokenizer(sentences(15, seed=1)[0])["input_ids"]]
    (note,) = data.notes
    assert f"{(lengths > 5).sum()} of 40 training, {sum(n > 5 for n in tests)} of 15 test texts" in note
    assert "more than 5 tokens" in note and data.input_size == (5,)
    limited = open_data(PAIRS, tokenizer=word_tokenizer(model_max_length=6), val_fraction=0)
    assert limited.train.tokens.lengths.max() == 6 and "more than 6 tokens" in limited.notes[-1]
    assert not any("tokens" in note for note in open_data(PAIRS, tokenizer=tokenizer, max_tokens=30).notes)


class Letters:
    """A tokenizer of a user's own, with nothing but what is asked of it."""

    def __call__(self, texts, truncation, padding, max_length=None):
        ids = [[ord(letter) for letter in text][:max_length] for text in texts]
        longest = max(map(len, ids)) if padding else 0
        pad = [[0] * max(longest - len(row), 0) for row in ids]
        return {
            "input_ids": [row + more for row, more in zip(ids, pad, strict=True)],
            "attention_mask": [[1] * len(row) + more for row, more in zip(ids, pad, strict=True)],
        }


def test_any_callable_like_a_tokenizer_will_do(monkeypatch):
    monkeypatch.setattr("offramp.data._tokens.AT_ONCE", 7)
    data = open_data(PAIRS, tokenizer=Letters(), max_tokens=12, val_fraction=0)
    assert rows(data.train) == [[ord(letter) for letter in text[:12]] for text in TEXTS]
    assert open_data(PAIRS, tokenizer=Letters()).read["digest"] == data.read["digest"]


def test_more_inputs_than_ids_are_padded_by_what_the_tokenizer_pads_them_with():
    def with_kinds(texts, **options):
        given = Letters()(texts, **options)
        kinds = [[1 if real else 7 for real in row] for row in given["attention_mask"]]
        return given | {"token_type_ids": kinds}

    data = open_data(PAIRS, tokenizer=with_kinds, val_fraction=0)
    wanted = with_kinds(TEXTS[:8], truncation=False, padding=True)
    (batch, *_) = batches(data.train, 8)
    assert {*batch.inputs} == {"input_ids", "token_type_ids", "attention_mask"}
    assert all(batch.inputs[name].tolist() == wanted[name] for name in wanted)
    only = data.only(["attention_mask", "input_ids"])
    assert (
        {*batches(only.train, 8)[0].inputs}
        == {*batches(only.test, 8)[0].inputs}
        == {
            "input_ids",
            "attention_mask",
        }
    )
    assert "token_type_ids" in only.notes[-1] and {*batches(data.train, 8)[0].inputs} == {*batch.inputs}


def test_a_folder_is_loaded_and_told_from_others(tmp_path):
    one, other = (
        write_tokenizer(tmp_path / "one"),
        write_tokenizer(tmp_path / "other", words=["word1", "bad1"]),
    )
    read = open_data(PAIRS, tokenizer=one).read
    assert read["tokenizer"] == one and read["column"] is None
    assert open_data(PAIRS, tokenizer=word_tokenizer()).read == read | {"tokenizer": None}
    tokenizer = word_tokenizer()
    tokenizer(["a"], truncation=True, max_length=1, padding="max_length")  # leaves traces in it
    assert open_data(PAIRS, tokenizer=tokenizer).read["digest"] == read["digest"]
    for changed in (other, word_tokenizer(padding_side="left"), word_tokenizer(truncation_side="left")):
        assert open_data(PAIRS, tokenizer=changed).read["digest"] != read["digest"]


def test_transformers_is_asked_for_where_a_folder_needs_it(tmp_path, monkeypatch):
    folder = write_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs transformers: pip install 'offramp\[text\]'"):
        open_data(PAIRS, tokenizer=folder)
    assert open_data(PAIRS, tokenizer=Letters()).num_classes == 2


def no_mask(texts, **options) -> dict[str, list[list[int]]]:
    given = Letters()(texts, **options)
    return {"input_ids": given["input_ids"]}


def fails(texts, **options):
    raise KeyError("a\nb")


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    images = [(torch.zeros(3, 8, 8), 0), (torch.zeros(3, 8, 8), 1)]
    texts = write_texts(tmp_path / "texts")
    null = tmp_path / "null"
    null.mkdir()
    for split in ("train", "test"):
        parquet.write_table(pa.table({"text": ["a", None], "label": [0, 1]}), null / f"{split}.parquet")
    for source, options, words in [
        (PAIRS, {}, ["sample 0", "texts", "`tokenizer=...`"]),
        (texts, {}, ["no column of images", "`tokenizer=...`"]),
        (datasets.Dataset.from_dict(columns()), {}, ["no column of images", "`tokenizer=...`"]),
        (PAIRS, {"max_tokens": 3}, ["max_tokens", "`tokenizer=...`"]),
        (PAIRS, {"text": "text"}, ["text", "`tokenizer=...`"]),
        (images, {"tokenizer": Letters()}, ["sample 0", "Tensor", "text"]),
        (PAIRS, {"tokenizer": Letters(), "size": 8}, ["size is for images"]),
        (PAIRS, {"tokenizer": Letters(), "max_tokens": 0}, ["max_tokens=0"]),
        (PAIRS, {"tokenizer": tmp_path / "nothing"}, ["no such folder", "save_pretrained"]),
        (PAIRS, {"tokenizer": str(texts)}, ["holds no tokenizer", "save_pretrained"]),
        (PAIRS, {"tokenizer": 3}, ["tokenizer is an int"]),
        (PAIRS, {"tokenizer": word_tokenizer().backend_tokenizer}, ["Tokenizer", "tokenizer_object"]),
        (PAIRS, {"tokenizer": word_tokenizer(pad=False)}, ["pad_token", "eos_token"]),
        (PAIRS, {"tokenizer": no_mask}, ["attention_mask"]),
        (PAIRS, {"tokenizer": fails}, ["KeyError", "truncation="]),
        (PAIRS, {"tokenizer": lambda texts, **_: [1]}, ["a list without input_ids"]),
        (
            PAIRS,
            {"tokenizer": lambda texts, **_: {"input_ids": 3}},
            ["something else than a list of input_ids"],
        ),
        (PAIRS, {"tokenizer": lambda texts, **_: {"input_ids": [[1]]}}, ["something else", "for each text"]),
        ([("", 0), ("a", 1)], {"tokenizer": Letters(), "val_fraction": 0}, ["sample 0", "no token"]),
        (null, {"tokenizer": Letters(), "val_fraction": 0}, ["null", "row 1: no text"]),
    ]:
        with pytest.raises(UserError) as refused:
            open_data(source, **options)
        line = str(refused.value)
        assert "\n" not in line and all(word in line for word in words), line


def test_lines_that_are_none(tmp_path):
    for name, content, words in [
        ("train.csv", "text,label\na,0\nb\n", ["train.csv cannot be read", "correct or replace it"]),
        ("train.jsonl", '{"text": "a", "label"\n', ["train.jsonl cannot be read"]),
        ("train.csv", "text,label\n", ["train.csv has no rows"]),
        ("train.csv", "text,label\na,0\n", ["has no test split"]),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError) as refused:
            open_data(tmp_path, tokenizer=Letters())
        assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)
        (tmp_path / name).unlink()


def test_order_and_shares_are_those_of_images():
    """A shuffled epoch divided among ranks holds every text once."""
    data = open_data(PAIRS, tokenizer=Letters(), val_fraction=0)
    seen: list[str] = []
    for rank in range(2):
        for batch in batches(data.train, 5, shuffle=True, rank=rank, world=2):
            ids: Tensor = batch.inputs["input_ids"]
            seen += ["".join(map(chr, row[row > 0].tolist())) for row in ids]
    assert sorted(seen) == sorted(TEXTS)
