"""What a request asks: a sample, and limits of its own, read from a body of JSON or of image bytes."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

from offramp_runtime import Input, Model
from offramp_runtime._errors import shown
from offramp_runtime._fields import is_number, strict_json
from offramp_runtime._images import MOST_PIXELS
from offramp_runtime.server._arrays import array

__all__ = ["Asked", "read"]

LIMITS = ("threshold", "budget", "timeout")
FREE = 2**16  # values along all free axes of an input together
SPARE = 64  # commas and brackets besides those of an input
IMAGES = ("image/", "application/octet-stream")


class Asked(NamedTuple):
    """One sample and what was asked for it.

    Attributes:
        sample: What the model reads, without a batch axis.
        threshold: Leave where the confidence reaches this; None: where the bundle's policy says.
        budget: Operations that the sample may take.
        timeout: Seconds after which nobody waits for the answer any more.
        probabilities: Whether the answer is to name the probability of every class.
    """

    sample: Any
    threshold: float | None = None
    budget: float | None = None
    timeout: float | None = None
    probabilities: bool = False


def read(
    model: Model,
    headers: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    body: bytearray,
    max_pixels: int = MOST_PIXELS,
) -> Asked:
    """Read the body of a request.

    Args:
        model: The model that the sample is for.
        headers: Its content type is ``application/json``, whose object has ``image`` (base64) or ``input``
            and may have limits; ``image/...`` or ``application/octet-stream`` for an image as in a file.
        query: The names and values behind the path's question mark: limits.
        body: The body.
        max_pixels: Of an image.

    Raises:
        HTTPException: 415, it is of another type; 400, anything else is wrong with it.
        InputError: The image cannot be read, or is not one for this model.
    """
    if (encoding := headers.get("content-encoding", "identity")) != "identity":
        raise HTTPException(415, f"Content-Encoding is {shown(encoding)}, must be left out")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        fields = _object(body, most=SPARE + sum(map(_marks, model.inputs)))
        sample = _sample(model, fields, max_pixels)
    elif kind.startswith(IMAGES):
        fields, sample = {}, model.image_of(bytes(body), max_pixels=max_pixels)
    else:
        known = "application/json or that of an image, e.g. image/jpeg"
        raise HTTPException(415, f"Content-Type is {shown(kind)}, must be {known}")
    return Asked(sample, **_limits([*fields.items(), *((name, _plain(value)) for name, value in query)]))


def _marks(entry: Input) -> int:
    """How many commas and brackets the JSON of an input has at most."""
    fixed = [length for length in entry.shape if length is not None]
    values = math.prod(fixed) * (FREE if len(fixed) < len(entry.shape) else 1)
    return values * (len(entry.shape) + 1)


def _object(body: bytearray, most: int) -> dict[str, Any]:
    """The object of a JSON text; one with more commas and brackets is not parsed, which stops all threads."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > most:
        raise HTTPException(400, "the body has more values than the inputs of this model")
    try:
        fields = strict_json(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, 'the body is not a JSON object; send {"image": ...} or {"input": ...}')
    return fields


def _sample(model: Model, fields: dict[str, Any], max_pixels: int) -> Any:
    """The sample, which is taken out of the fields."""
    if ("image" in fields) == ("input" in fields):
        raise HTTPException(400, 'the body must have one of "image" (base64) and "input" (numbers)')
    if "image" in fields:
        return model.image_of(_decoded(fields.pop("image")), max_pixels=max_pixels)
    value, names = fields.pop("input"), [each.name for each in model.inputs]
    named = value if isinstance(value, Mapping) or len(names) > 1 else {names[0]: value}
    if not isinstance(named, Mapping) or set(named) != {*names}:
        raise HTTPException(400, f'"input" must be an object with {", ".join(names)}')
    arrays = {each.name: array(named[each.name], each) for each in model.inputs}
    return arrays if len(names) > 1 else arrays[names[0]]


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise HTTPException(400, '"image" must be the base64 text of an image file')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # the latter where letters are not ASCII
        raise HTTPException(400, '"image" is not base64 text') from None


def _plain(text: str) -> Any:
    """A value of the query: a number, true or false, or text that no limit takes."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _limits(given: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for name, value in given:
        if value is None:
            continue
        if name not in (*LIMITS, "probabilities"):
            known = ", ".join((*LIMITS, "probabilities"))
            raise HTTPException(400, f"{shown(name)} is not known here; there are {known}")
        if name in limits:
            raise HTTPException(400, f"{name} is given twice")
        limits[name] = _truth(name, value) if name == "probabilities" else _number(name, value)
    return limits


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise HTTPException(400, f"{name} must be true or false")
    return value


def _number(name: str, value: Any) -> float:
    if not is_number(value):
        raise HTTPException(400, f"{name} must be a number")
    return float(value)
