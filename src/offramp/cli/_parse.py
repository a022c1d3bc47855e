"""Parse a command line into the command's frozen dataclass, with tyro; a mistake becomes one line."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import itertools
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from offramp.cli._answer import emit
from offramp.errors import UserError, cut, guess

try:
    import tyro
except ModuleNotFoundError as error:
    raise UserError("the command line needs tyro: pip install 'offramp[cli]'") from error

__all__ = ["parse"]

C = TypeVar("C")
LONGEST = 200  # characters of a word that a complaint repeats
NO_DEFAULT = r"\s*\(default:\s*(?:None|False|'')?\)"  # what tyro says of flags that may be left out
UNEXPECTED = r"^Unrecognized options: (.*)$"  # tyro's
NO_NUMBER = {  # what follows "Error parsing --flag: " where a word is none, of tyro or of Python through it
    r"no type matching INT could be instantiated from \[(.*)\]": "a whole number",
    r"invalid literal for int\(\) with base 10: (.*)": "a whole number",
    r"no type matching FLOAT could be instantiated from \[(.*)\]": "a number",
    r"could not convert string to float: (.*)": "a number",
    r"no type matching FLOAT\|\{none\} could be instantiated from \[(.*)\]": "a number or none",
}


def parse(command: type[C], prog: str, words: Sequence[str]) -> C:
    """The command that the words describe.

    Args:
        command: A frozen dataclass; its docstring is the help, its ``EXAMPLES`` end it.
        prog: How the command is called, e.g. ``offramp train``.
        words: What stands after it.

    Raises:
        UserError: Words that do not fit.
        SystemExit: After ``--help``.
    """
    _check_flags([_flag(field) for field in _optional(command)], prog, words)
    _check_required(command, prog, words)
    _check_values(command, prog, words)
    made, page, complaint = _by_tyro(command, prog, words)
    if made is not None:
        return made
    if complaint:
        short = [cut(word, LONGEST) or "''" for word in words]
        complaint = _by_tyro(command, prog, short)[2] or complaint
        known = ", ".join(_positional_names(command) + [_flag(field) for field in _optional(command)])
        line = re.sub(UNEXPECTED, rf"unexpected: \1; there are: {known}", _one_line(complaint))
        raise UserError(f"{cut(line, 3 * LONGEST)}; see {prog} --help")
    emit(re.sub(NO_DEFAULT, "", page))
    raise SystemExit(0)


def _by_tyro(command: type[C], prog: str, words: Sequence[str]) -> tuple[C | None, str, str]:
    """The command that the words describe, or else the page of help or the complaint that they get."""
    page, complaint = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(page), contextlib.redirect_stderr(complaint):
            made = tyro.cli(
                command,
                prog=prog,
                description=f"{inspect.getdoc(command)}\n\nexamples:\n{command.EXAMPLES}",  # type: ignore[attr-defined]
                args=words,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
            )
    except SystemExit as error:
        return None, page.getvalue().rstrip(), complaint.getvalue() if error.code else ""
    return made, "", ""


def _optional(command: Any) -> list[dataclasses.Field[Any]]:
    """The fields that are flags."""
    fields = []
    for field in dataclasses.fields(command):
        if dataclasses.is_dataclass(field.default):
            fields += _optional(field.default)
        elif not _positional(field):
            fields.append(field)
    return fields


def _positional_names(command: Any) -> list[str]:
    return [field.name.upper() for field in dataclasses.fields(command) if _positional(field)]


def _flag(field: dataclasses.Field[Any]) -> str:
    return "--" + field.name.replace("_", "-")


def _positional(field: dataclasses.Field[Any]) -> bool:
    return "Positional" in str(field.type)


def _check_flags(flags: Sequence[str], prog: str, words: Sequence[str]) -> None:
    """Complain of a flag that does not exist before anything that follows from it."""
    for word in words:
        flag = word.split("=")[0]
        if _looks_like_a_flag(word) and flag.replace("_", "-") not in [*flags, "-h", "--help"]:
            close = guess(flag, flags)
            if "--set" in flags and not close:
                setting = flag.lstrip("-").replace("-", "_")
                close = f" (of a setting or an option write --set {cut(setting, LONGEST)}=VALUE)"
            known = f"{close}; there are: {', '.join(flags)}"
            raise UserError(f"no flag {cut(flag, LONGEST)}{known}; see {prog} --help")


def _check_values(command: Any, prog: str, words: Sequence[str]) -> None:
    """Complain of a flag that takes values and has none, which tyro takes for the empty tuple."""
    several = {_flag(field) for field in _optional(command) if ", ...]" in str(field.type)}
    for word, following in itertools.zip_longest(words, words[1:], fillvalue="--end"):
        if following in ("-h", "--help"):
            return
        if word.replace("_", "-") in several and _looks_like_a_flag(following):
            raise UserError(f"{word} has no value; give one or more, or leave it out; see {prog} --help")


def _looks_like_a_flag(word: str) -> bool:
    return bool(re.match(r"--?[A-Za-z]", word))


def _check_required(command: Any, prog: str, words: Sequence[str]) -> None:
    given_flags = {word.split("=")[0].replace("_", "-") for word in words}
    if not given_flags & {"-h", "--help"}:
        unless = getattr(command, "UNLESS", {})
        required = [
            f
            for f in dataclasses.fields(command)
            if f.default is dataclasses.MISSING or (f.name in unless and unless[f.name] not in given_flags)
        ]
        missing = [_flag(f) for f in required if not _positional(f) and _flag(f) not in given_flags]
        if missing:
            raise UserError(f"missing: {', '.join(missing)}; see {prog} --help")


def _one_line(box: str) -> str:
    """What one of tyro's boxes says, without its frame and title, up to its next rule or gap."""
    text = []
    for line in (line.strip("│ ") for line in box.splitlines()[1:]):
        if line.strip("-─╰╯"):
            text.append(line)
        elif text:
            break
    line = " ".join(text).rstrip(".")
    for complaint, number in NO_NUMBER.items():
        line = re.sub(rf"^Error parsing (\S+): {complaint}$", rf"\1 must be {number}, got \2", line)
    return line
