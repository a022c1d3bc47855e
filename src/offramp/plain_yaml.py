"""YAML as a user writes it, read as plain values: text, numbers, true, false, null, lists and mappings.

Scalars are those of YAML 1.2: ``1e-4`` is a number, and only true and false are booleans ("off" is a word).
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml
from yaml.constructor import ConstructorError
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode

from offramp.errors import UserError, cut, shown

__all__ = ["parse_yaml"]

LONGEST = 2**20  # characters
REPEATED = 2**15  # more of them, written without aliases
DEEPEST = 50  # lists in lists
PLAIN = [f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")]


def parse_yaml(text: str) -> Any:
    """Read a YAML text as plain values.

    Raises:
        UserError: It is not YAML, has a value that is not plain, the same key twice, whole numbers beyond
            64 bits, or is too long or too deep; the line says where.
    """
    if len(text) > LONGEST:
        raise UserError(f"{len(text)} characters are too many for YAML; give {LONGEST} at most")
    try:
        loader = _Loader(text)  # a SafeLoader: builds plain values only
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, 2 * len(text) + REPEATED)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {_said(error)}") from None
    except RecursionError:
        raise UserError(_too_deep()) from None


def _said(error: yaml.YAMLError) -> str:
    """What the reader complains of, and where."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return cut(" ".join(str(error).split()), 300)
    place = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return f"{cut(': '.join(filter(None, (error.context, error.problem))), 300)} ({place})"


def _check_size(node: Node, most: int) -> None:
    """Refuse a document that a few aliases make endless, before it is built.

    Args:
        node: The whole of it.
        most: Values, and characters of theirs, if it were written without aliases.
    """
    written, waiting = 0, [(node, 1)]
    while waiting:
        node, depth = waiting.pop()
        parts = node.value
        written += 1
        if isinstance(node, ScalarNode):
            written += len(parts)
        elif isinstance(node, MappingNode):
            waiting += [(part, depth + 1) for pair in parts for part in pair]
        else:
            waiting += [(part, depth + 1) for part in parts]
        if depth > DEEPEST and not isinstance(node, ScalarNode):
            raise UserError(_too_deep())
        if written > most:
            raise UserError("its YAML repeats itself by aliases without end; write it without them")


def _too_deep() -> str:
    return f"its YAML has lists or mappings inside each other more than {DEEPEST} deep; write it flatter"


class _Loader(yaml.SafeLoader):
    """The plain values of YAML; what its own constructors cannot make is an error like any other."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        initial: [
            (tag, pattern)
            for tag, pattern in rules
            if not tag.endswith((":bool", ":float", ":timestamp", ":value"))
        ]
        for initial, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in PLAIN
    }

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level == DEEPEST:  # the look-ahead for keys is quadratic in it
            raise UserError(_too_deep())
        super().fetch_flow_collection_start(token)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:  # ValueError, KeyError, IndexError, AttributeError ...
            raise _mistake(node, f"{shown(node.value)} is no {_kind(node)}") from None
        if isinstance(value, int) and abs(value) >= 2**63:
            raise _mistake(node, "a whole number has 64 bits at most; a larger one is written 1e20")
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            raise _mistake(node, f"{shown(value)} has a character that no text can have")
        return value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, ScalarNode) or key.value == "<<":  # merging several is no mistake
                    continue
                if key.value in seen:
                    raise _mistake(key, f"the key {shown(key.value)} is there twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_undefined(self, node: Node) -> NoReturn:
        plain = "text, a number, true, false, null, a list or a mapping"
        raise _mistake(node, f"{shown(node.tag)} is no plain value; write {plain}")


def _mistake(node: Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


def _kind(node: Node) -> str:
    return str(node.tag).rpartition(":")[2]


_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|nan))$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|false)$"), list("tf"))
_Loader.add_constructor(None, _Loader.construct_undefined)
