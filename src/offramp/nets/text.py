"""Networks as text: ``vgg7``, ``vgg7:width=16`` with arguments, ``file.py:build`` for one's own."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch

from offramp.errors import UserError, guess
from offramp.nets._own import PLACE, build_own, check_own
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo.catalogue import NETS, build_named

__all__ = ["build", "check", "parse_net", "sketch", "word"]


def parse_net(text: str) -> tuple[str, dict[str, Any]]:
    """Read a network's name and arguments: ``"vgg7:width=16"`` -> ``("vgg7", {"width": 16})``.

    Values are Python literals; a bare word is text. The name of a network of one's own holds a colon.

    Raises:
        UserError: What stands after the name is not ``key=value,key=value``.
    """
    place = PLACE.match(text)
    own = place is not None and place["module"] not in NETS
    name = place[0] if place and own else text.partition(":")[0]
    _, colon, arguments = text[len(name) :].partition(":")
    try:
        call = ast.parse(f"net({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or (colon and not call.keywords):
            raise ValueError
        values = {_key(keyword): _value(keyword.value) for keyword in call.keywords}
        json.dumps(values)  # a run notes them
        return name, values
    except (SyntaxError, TypeError, ValueError):
        raise UserError(
            f"cannot read the network {text!r}; write name:key=value,key=value, e.g. vgg7:width=16 or "
            "path/to/file.py:build:weights='a/b.pt'"
        ) from None


def word(spec: Mapping[str, Any]) -> str:
    """The text of a network, as tables have it: ``{"net": "vgg7", "width": 16}`` -> ``vgg7:width=16``.

    Args:
        spec: How it was built, as ``run.json`` has it. What follows from the data is left out, and so are
            the defaults of the zoo.
    """
    hidden = ("net", "num_classes", "input_size", "shapes", "exits_after")
    known = inspect.signature(NETS[spec["net"]]).parameters if spec["net"] in NETS else {}
    default = {key: parameter.default for key, parameter in known.items()}
    arguments = ",".join(
        f"{key}={value}"
        for key, value in spec.items()
        if key not in hidden and (key not in default or value != default[key])
    )
    return f"{spec['net']}:{arguments}" if arguments else str(spec["net"])


def build(
    text: str, num_classes: int | None = None, input_size: tuple[int, ...] | None = None
) -> MultiExitNet:
    """Build the network that a text names.

    Args:
        text: The text.
        num_classes: Holds where the text does not say otherwise; left out where a network of one's own does
            not take it.
        input_size: Shape of one input; by default the network's own.

    Raises:
        UserError: No such network, no such argument, or a value it cannot have.
    """
    name, arguments = parse_net(text)
    if _is_own(name):
        return build_own(name, arguments, num_classes, input_size)
    if num_classes is not None:
        arguments = {"num_classes": num_classes} | arguments
    return _build_named(text, name, arguments, input_size)


def check(text: str) -> None:
    """Find mistakes in the text, without memory for weights; one's own network is found but not built.

    Raises:
        UserError: As :func:`build`.
    """
    name, arguments = parse_net(text)
    if _is_own(name):
        check_own(name, arguments)
    else:
        sketch(text)


def sketch(
    text: str, num_classes: int | None = None, input_size: tuple[int, ...] | None = None
) -> MultiExitNet:
    """Build a network for counting: without memory for its weights, unless it is one's own.

    Raises:
        UserError: As :func:`build`; or it does not take a number of classes.
    """
    name, arguments = parse_net(text)
    if num_classes is not None:
        arguments.setdefault("num_classes", num_classes)
    if _is_own(name):
        return build_own(name, arguments, input_size=input_size)
    with torch.device("meta"):
        return _build_named(text, name, arguments, input_size)


def _is_own(name: str) -> bool:
    return ":" in name


def _build_named(
    text: str, name: str, arguments: Mapping[str, Any], input_size: tuple[int, ...] | None
) -> MultiExitNet:
    if name not in NETS:
        known = f"there are: {', '.join(NETS)}; one of your own is written path/to/file.py:build"
        raise UserError(f"no network {name!r}{guess(name, NETS)}; {known}")
    try:
        return build_named(name, arguments, input_size)
    except UserError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:  # torch's, at a value that makes no layer
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot build {text!r}: {reason}; give its arguments other values") from error


def _key(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError
    return keyword.arg


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "none": None}.get(node.id.lower(), node.id)
    return ast.literal_eval(node)
