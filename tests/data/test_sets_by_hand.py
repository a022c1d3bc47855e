"""Data sets that are put together in Python are checked when they are made, as read ones are: one line."""

from __future__ import annotations

import pytest
import torch
from small_sets import refused

from offramp.data import ImageData, JointData, Split, Target, TargetTensors, TextData, TextSplit, Transform
from offramp.data._tokens import TokenRows

N = 12
IMAGES = torch.arange(N * 3 * 8 * 8).remainder(256).to(torch.uint8).view(N, 3, 8, 8)
LABELS = torch.arange(N) % 3
CLASSES = {"label": Target("class", ("a", "b", "c"))}
FLOATS = IMAGES / 255
BOXES = torch.tensor([0.1, 0.1, 0.5, 0.5]).repeat(N, 1)


def split(images=IMAGES, labels=LABELS):
    return Split(images, {"label": labels})


def image_data(**parts):
    whole = {
        "name": "x",
        "source": "x",
        "targets": CLASSES,
        "train": split(),
        "val": split(),
        "load_test": split,
    }
    return ImageData(**{**whole, **parts})


def with_value(tensor, value):
    """The same with one value in sample 7."""
    changed = tensor.clone()
    changed[7].view(-1)[0] = value
    return changed


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            IMAGES.double(),
            "images are a Tensor [12, 3, 8, 8] of float64; give levels 0 ... 255 as torch.uint8",
        ),
        (IMAGES.half(), "of float16; give levels"),
        (IMAGES.long(), "of int64; give levels"),
        (IMAGES[:, 0], "images are a Tensor [12, 8, 8] of uint8; give a Tensor [N, channels, height, width]"),
        (IMAGES[:, :0], "a Tensor [12, 0, 8, 8]"),
        (IMAGES[:, :, :0], "a Tensor [12, 3, 0, 8]"),
        (IMAGES.numpy(), "images are an ndarray; give a Tensor"),
        (None, "images are a NoneType"),
        (IMAGES.to("meta"), "a Tensor without values"),
        (FLOATS.to_sparse(), "a Tensor without values"),
        (with_value(FLOATS, torch.nan), "image 7 has values that are not finite; replace them"),
        (with_value(FLOATS, torch.inf), "image 7 has values that are not finite"),
    ],
    ids=range(12),
)
def test_images_that_are_none(images, words):
    refused([words], images, use=split)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS.int(), "target 'label' is a Tensor [12] of int32; of kind class it is torch.int64"),
        (LABELS.float(), "of float32; of kind class it is torch.int64"),
        (LABELS == 1, "of bool; of kind class it is torch.int64"),
        (LABELS[:, None], "target 'label' is a Tensor [12, 1] of int64; of kind class it is [N]"),
        (LABELS.tolist(), "target 'label' is a list; of kind class it is [N]"),
        (LABELS[:5], "a split has 12 samples and 5 of target 'label'; give as many"),
        (LABELS.to("meta"), "target 'label': a Tensor without values"),
    ],
    ids=range(7),
)
def test_labels_that_are_none(labels, words):
    refused([words], labels=labels, use=split)


@pytest.mark.parametrize("label", [3, -1, 2**31, -(2**63)])
@pytest.mark.parametrize("where", ["train", "val", "test"])
def test_labels_out_of_range(label, where):
    wrong = split(labels=with_value(LABELS, label))
    parts = {"load_test": lambda: wrong} if where == "test" else {where: wrong}
    words = [
        f"the {where} split of x, target 'label': sample 7 is out of range; give classes 0 ... 2, and -100"
    ]
    refused(words, use=lambda: image_data(**parts).test)


def test_a_sample_may_lack_its_label_and_a_split_may_not_lack_all():
    data = image_data(train=split(labels=with_value(LABELS, -100)))
    assert not data.train.targets.complete
    refused(
        ["the train split of x has no sample with a target"],
        train=split(labels=LABELS * 0 - 100),
        use=image_data,
    )


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"train": split(IMAGES[:0], LABELS[:0])}, "the train split of x is empty; give it samples"),
        ({"load_test": lambda: split(IMAGES[:0], LABELS[:0])}, "the test split of x is empty"),
        ({"train": [1, 2]}, "the train split of x is a list; give a Split"),
        ({"load_test": lambda: None}, "the test split of x is a NoneType"),
        ({"load_test": 3}, "load_test is 3, must be a function"),
        (
            {"val": split(FLOATS)},
            "the training images are uint8, the val images float32, which are normalised",
        ),
        ({"load_test": lambda: split(FLOATS)}, "the training images are uint8, the test images float32"),
        ({"val": split(IMAGES[:, :, :4])}, "the training images are 8x8, the val images 8x4"),
        ({"targets": {}}, "targets are {}, must be a mapping"),
        ({"targets": None}, "targets are None, must be a mapping"),
        ({"targets": {"label": "class"}}, "targets have 'label': 'class', must be a text and a Target"),
        ({"targets": {3: CLASSES["label"]}}, "targets have 3: "),
        ({"targets": {"label": Target("class")}}, "target 'label' has no class to tell"),
        ({"targets": {"label": Target("box")}}, "has 'label' of kind class, and its set says box"),
        ({"targets": {"kind": CLASSES["label"]}}, "has no target 'kind'; give it, or leave it out"),
        ({"name": 3}, "name is 3, must be a text"),
        ({"source": None}, "source is None, must be a text"),
        ({"digest": 3}, "digest is 3, must be a text"),
        ({"notes": "abc"}, "notes are 'abc', must be a list of lines"),
        ({"notes": [3]}, "notes are [3], must be a list of lines"),
    ],
    ids=range(20),
)
def test_parts_that_do_not_fit(parts, words):
    refused([words], use=lambda: image_data(**parts).test)


def test_an_empty_validation_split_is_none():
    assert len(image_data(val=split(IMAGES[:0], LABELS[:0])).val) == 0


KINDS = {
    "labels": (Target("labels", ("a", "b")), torch.zeros(N, 2)),
    "values": (Target("values", size=2), torch.zeros(N, 2)),
    "box": (Target("box"), BOXES),
    "segmentation": (Target("segmentation", ("a", "b")), torch.zeros(N, 8, 8, dtype=torch.int64)),
    "depth": (Target("depth"), torch.ones(N, 1, 8, 8)),
    "normals": (Target("normals"), torch.ones(N, 3, 8, 8)),
}


def of_kind(kind, change):
    target, right = KINDS[kind]
    tensors = TargetTensors({"t": change(right)}, {"t": target})
    return image_data(targets={"t": target}, **dict.fromkeys(("train", "val"), Split(IMAGES, tensors)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_target_is_taken(kind):
    assert of_kind(kind, lambda right: right).targets["t"].kind == kind


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("labels", lambda t: with_value(t, 0.5), "sample 7 is out of range; give each label as 0 or 1"),
        ("labels", lambda t: t[:, :1], "1 labels for a sample, and its set says 2"),
        ("labels", lambda t: t.long(), "of kind labels it is torch.float32"),
        ("values", lambda t: with_value(t, torch.inf), "sample 7 is out of range; give finite numbers"),
        ("values", lambda t: t[:, 0], "of kind values it is [N, values]"),
        ("values", lambda t: t.double(), "of float64; of kind values it is torch.float32"),
        ("box", lambda t: with_value(t, 0.9), "sample 7 is out of range; give (x0, y0, x1, y1)"),
        ("box", lambda t: with_value(t, -0.1), "sample 7 is out of range"),
        ("box", lambda t: with_value(t, torch.nan), "sample 7 is out of range"),
        ("box", lambda t: t * 100, "sample 0 is out of range"),
        ("box", lambda t: t[:, :3], "of kind box it is [N, 4]"),
        ("segmentation", lambda t: with_value(t, 2**31), "sample 7 is out of range; give classes 0 ... 1"),
        ("segmentation", lambda t: t[:, :4], "is not of the images' size"),
        ("segmentation", lambda t: t.float(), "of kind segmentation it is torch.int64"),
        ("depth", lambda t: with_value(t, -1), "sample 7 is out of range; give metres"),
        ("depth", lambda t: with_value(t, torch.inf), "sample 7 is out of range"),
        ("depth", lambda t: t[:, 0], "of kind depth it is [N, 1, height, width]"),
        ("normals", lambda t: with_value(t, torch.nan), "sample 7 is out of range; give unit vectors"),
        ("normals", lambda t: t[:, :2], "of kind normals it is [N, 3, height, width]"),
    ],
    ids=range(19),
)
def test_targets_of_every_kind_that_are_wrong(kind, change, words):
    refused([words], kind, change, use=of_kind)


def test_absent_targets_of_every_kind_are_taken():
    for kind, value in (("labels", torch.nan), ("values", torch.nan), ("segmentation", -5)):
        of_kind(kind, lambda t, value=value: with_value(t, value))
    of_kind("box", lambda t: torch.where(torch.arange(N)[:, None] == 7, torch.nan, t))


def test_targets_of_no_known_kind():
    refused(
        ["target 'depth' is of no known kind; give it, by TargetTensors"], IMAGES, {"depth": BOXES}, use=Split
    )
    refused(["targets are None, must be a mapping"], IMAGES, None, use=Split)


def tokens(count):
    return TokenRows({"input_ids": torch.arange(2 * count)}, torch.full((count,), 2), {}, left=False)


def test_texts_by_hand():
    targets = TargetTensors({"label": LABELS})
    refused(["tokens are a Tensor; open texts by open_data"], IMAGES, targets, use=TextSplit)
    refused(["a split has 5 samples and 12 of target 'label'"], tokens(5), targets, use=TextSplit)
    parts = {"read": {}, "name": "x", "source": "x", "targets": CLASSES, "load_test": split}
    words = ["the train split of x is a Split; give a TextSplit"]
    refused(words, **parts, train=split(), val=split(), use=TextData)
    words = ["the train split of x is a TextSplit; give a Split or StreamSplit or DenseStream"]
    refused(words, train=TextSplit(tokens(N), targets), use=image_data)


@pytest.mark.parametrize("sets", [{}, [1], None, {"a": 3}, {3: image_data()}], ids=range(5))
def test_several_sets_are_opened_sets_by_name(sets):
    refused(["sets ", "must be a "], sets, use=JointData)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5,), (0.5, 0.5)),
        ((0.5,), (0.0,)),
        ((0.5,), (-1.0,)),
        ((float("nan"),), (1.0,)),
        ((0.5,), (float("inf"),)),
    ],
)
def test_a_normalisation_is_finite_numbers_for_every_channel(mean, std):
    refused(["a normalisation by means", "give a finite number of each"], mean, std, use=Transform)


def test_a_normalisation_of_another_length_than_the_images():
    batches = split().batches(4, transform=Transform((0.5,), (0.5,)), device="cpu")
    refused(["the normalisation has 1 channels, the images 3"], batches, use=next)
