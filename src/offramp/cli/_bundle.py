"""Commands on a bundle, by the torch-free runtime that runs it wherever it goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from offramp.cli._answer import Answer
from offramp.cli._read_files import printable, trouble_of
from offramp.errors import UserError

__all__ = ["is_bundle", "predict_by_bundle", "runtime", "told"]


def is_bundle(folder: str) -> bool:
    """Whether a folder is one that ``offramp export`` wrote, and none of a run."""
    there = [os.path.isfile(os.path.join(folder, name)) for name in ("manifest.json", "run.json")]
    return there == [True, False]


def runtime(module: str = "offramp_runtime") -> ModuleType:
    """Import the runtime, or a module of it.

    Raises:
        UserError: It is not installed, or not all that it needs.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"bundles are run by offramp-runtime, and {error.name} is not installed: "
            "pip install 'offramp-runtime[images,server]'"
        ) from error


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell what the runtime finds wrong as a mistake of the user's."""
    offramp_runtime = runtime()
    try:
        yield
    except (offramp_runtime.BundleError, offramp_runtime.InputError) as error:
        raise UserError(str(error)) from error


def predict_by_bundle(bundle: str, images: Sequence[str]) -> Answer:
    """Predict the class of images by a bundle, whose policy says where they leave.

    Raises:
        UserError: Anything is wrong with the bundle, or no image can be read.
    """
    from offramp.data.image_files import find_images
    from offramp.text_table import aligned

    offramp_runtime = runtime()
    with told():
        model = offramp_runtime.load(bundle)
        files = find_images(images)
        answers = [*offramp_runtime.predict_files(model, files)]
    unread = [UserError(str(each)) for each in answers if isinstance(each, Exception)]
    found = [each for each in answers if not isinstance(each, Exception)]
    trouble = trouble_of(unread, len(files))
    if trouble is not None and not found:
        raise trouble
    document: dict[str, Any] = {
        "bundle": bundle,
        "confidence": model.confidence,
        "predictions": [
            {"image": a.file, "class": a.label, "confidence": a.confidence, "exit": a.exit, "cost": a.cost}
            for a in found
        ],
        "unread": [str(error) for error in unread],
    }
    rows = [[printable(a.file), a.label, f"{a.confidence:.4f}", str(a.exit)] for a in found]
    text = aligned(["image", "class", "confidence", "exit"], rows, left=2)
    return Answer(document, f"{text}\n\nconfidence: {model.confidence}; bundle: {bundle}", trouble)
