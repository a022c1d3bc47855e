"""A method in words: what it changes, costs, and what each of its options means."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING

from offramp.errors import UserError
from offramp.text_table import WIDTH

if TYPE_CHECKING:
    from offramp.methods import Method

try:
    import docstring_parser
except ModuleNotFoundError as error:
    raise UserError("the command line needs docstring-parser: pip install 'offramp[cli]'") from error

__all__ = ["meanings", "method_page"]

ROLE = re.compile(r":\w+:`~?(?:[^`]*\.)?([^`.]+)`")  # of Sphinx: a name in the code


def meanings(method: Method) -> dict[str, str]:
    """What each option of a method means, from the docstrings of its parts."""
    return {
        option: _attributes(kind).get(field, "") for option, (kind, field) in method.option_fields.items()
    }


def method_page(method: Method) -> str:
    """All about one method, for a terminal."""
    lines = [
        fill(f"{method.name}: {method.summary}", WIDTH, subsequent_indent="  "),
        f"  changes: {', '.join(method.axes) or 'nothing, it is the plain one'}",
        f"  passes per step: {method.passes}  (K exits, F a forward pass, B a backward pass)",
        fill(f"source: {method.paper}", WIDTH, initial_indent="  ", subsequent_indent="    "),
    ]
    for option, meaning in meanings(method).items():
        lines += ["", f"  {option}={method.options[option]}"]
        lines += [
            fill(meaning, WIDTH, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False)
        ]
    return "\n".join(lines)


def _attributes(kind: type) -> dict[str, str]:
    """The attributes that a class's docstring, or those of its bases, describe."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for param in docstring_parser.parse(each.__doc__ or "").params:
            if param.args[0] == "attribute":
                text = " ".join((param.description or "").split())
                told[param.arg_name] = ROLE.sub(r"\1", text).replace("`", "")
    return told
