"""A network as one word: ``vgg7``, or ``vgg7:width=16`` with arguments of its builder."""

from __future__ import annotations

import ast
from typing import Any

import torch

from offramp.errors import UserError
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo import named

__all__ = ["build", "check", "parse_net"]


def parse_net(text: str) -> tuple[str, dict[str, Any]]:
    """``"vgg7:width=16,num_classes=10"`` -> ``("vgg7", {"width": 16, "num_classes": 10})``.

    Values are Python literals; a bare word is text.

    Raises:
        UserError: What stands after the colon is not ``key=value,key=value``.
    """
    name, colon, arguments = text.partition(":")
    try:
        call = ast.parse(f"net({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or (colon and not call.keywords):
            raise ValueError
        return name, {_key(keyword): _value(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise UserError(
            f"cannot read the network {text!r}; write name:key=value,key=value, e.g. vgg7:width=16"
        ) from None


def _key(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError
    return keyword.arg


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "none": None}.get(node.id.lower(), node.id)
    return ast.literal_eval(node)


def build(text: str, num_classes: int | None = None) -> MultiExitNet:
    """The network that the text names; ``num_classes`` holds where the text does not say otherwise.

    Raises:
        UserError: No such network, no such argument, or a value it cannot have.
    """
    name, arguments = parse_net(text)
    make = named(name)
    try:
        return make(**({} if num_classes is None else {"num_classes": num_classes}) | arguments)
    except UserError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:  # torch's, at a value that makes no layer
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot build {text!r}: {reason}; give its arguments other values") from error


def check(text: str, num_classes: int | None = None) -> MultiExitNet:
    """The same network without memory for its weights: for counting, and to find mistakes early.

    Raises:
        UserError: As :func:`build`.
    """
    with torch.device("meta"):
        return build(text, num_classes)
