"""Networks as text: ``vgg7``, ``vgg7:width=16`` with arguments, ``file.py:build`` for one's own."""

from __future__ import annotations

import ast
import inspect
import json
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch

from offramp.data.targets import LABEL, Target
from offramp.errors import UserError, guess, shown
from offramp.nets._own import PLACE, build_own, check_own
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.net import Net
from offramp.nets.task_heads import noted_targets, with_tasks
from offramp.nets.zoo.catalogue import NETS, build_named

__all__ = ["build", "build_noted", "check", "parse_net", "sketch", "word"]


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of odd literals
            call = ast.parse(f"net({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or (colon and not call.keywords):
            raise ValueError
        values = {_key(keyword): _value(keyword.value) for keyword in call.keywords}
        json.dumps(values).encode()  # a run notes them
        return name, values
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):  # the last two of nesting
        raise UserError(
            f"cannot read the network {shown(text)}; write name:key=value,key=value, e.g. vgg7:width=16 or "
            "path/to/file.py:build:weights='a/b.pt'"
        ) from None


def word(spec: Mapping[str, Any]) -> str:
    """The text of a network, as tables have it: ``{"net": "vgg7", "width": 16}`` -> ``vgg7:width=16``.

    Args:
        spec: How it was built, as ``run.json`` has it. What follows from the data is left out, and so are
            the defaults of the zoo.
    """
    hidden = ("net", "num_classes", "input_size", "shapes", "exits_after", "tasks")
    known = inspect.signature(NETS[spec["net"]]).parameters if spec["net"] in NETS else {}
    default = {key: parameter.default for key, parameter in known.items()}
    arguments = ",".join(
        f"{key}={value}"
        for key, value in spec.items()
        if key not in hidden and (key not in default or value != default[key])
    )
    return f"{spec['net']}:{arguments}" if arguments else str(spec["net"])


def build(
    text: str,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    targets: Mapping[str, Target] | None = None,
) -> Net:
    """Build the network that a text names.

    Args:
        text: The text.
        num_classes: Holds where the text does not say otherwise; left out where a network of one's own does
            not take it. By default that of the one target that has classes.
        input_size: Shape of one input; by default the network's own.
        targets: What there is to predict. A net of the zoo with exits, which predict ``label``, gets a head
            for each target in their place if there are others (:mod:`offramp.nets.task_heads`).

    Raises:
        UserError: No such network, no such argument, or a value it cannot have; or a net with exits is no
            trunk for such targets.
    """
    name, given = parse_net(text)
    if num_classes is None:
        num_classes = _classes(targets or {})
    if _is_own(name):
        return build_own(name, given, num_classes, input_size)
    arguments = given if num_classes is None else {"num_classes": num_classes} | given
    net = _build_named(text, name, arguments, input_size)
    if targets is None or not isinstance(net, MultiExitNet) or _are_classes(targets):
        return net
    if "num_classes" in given:
        raise UserError(
            f"{shown(text)} gets a head for each of {', '.join(targets)}, as large as its target needs; "
            "leave num_classes out"
        )
    return with_tasks(net, targets)


def build_noted(spec: Mapping[str, Any], input_size: tuple[int, ...] | None = None) -> Net:
    """Build the network of the zoo that a note tells, which ``net.spec`` was.

    Args:
        spec: ``{"net": name, **arguments}``; beside them ``tasks``, of heads for several targets.
        input_size: Shape of one input; by default the network's own.

    Raises:
        UserError: No such network, no such argument, or a value it cannot have.
    """
    arguments = {key: value for key, value in spec.items() if key not in ("net", "tasks")}
    net = build_named(spec["net"], arguments, input_size)
    if "tasks" not in spec:
        return net
    return with_tasks(cast(MultiExitNet, net), noted_targets(spec["tasks"]))


def _classes(targets: Mapping[str, Target]) -> int | None:
    """The number of classes of the one target that has some; None if there is none, or several."""
    sizes = [target.size for target in targets.values() if target.kind in ("class", "segmentation")]
    return sizes[0] if len(sizes) == 1 else None


def _are_classes(targets: Mapping[str, Target]) -> bool:
    """Whether there is nothing to predict but the classes of ``label``, as exits do."""
    return [(key, target.kind) for key, target in targets.items()] == [(LABEL, "class")]


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


def sketch(text: str, num_classes: int | None = None, input_size: tuple[int, ...] | None = None) -> Net:
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
) -> Net:
    if name not in NETS:
        if name.endswith(".py"):
            raise UserError(f"{shown(name)} names no network in the file; write {name}:build for its build()")
        known = f"there are: {', '.join(NETS)}; one of your own is written path/to/file.py:build"
        raise UserError(f"no network {shown(name)}{guess(name, NETS)}; {known}")
    try:
        return build_named(name, arguments, input_size)
    except UserError:
        raise
    # torch's, at a value that makes no layer
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot build {shown(text)}: {reason}; give its arguments other values") from error


def _key(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError
    return keyword.arg


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "none": None}.get(node.id.lower(), node.id)
    return ast.literal_eval(node)
