"""Messages show what a user gave by :func:`offramp.errors.shown`, and never its whole ``repr``."""

import ast
from pathlib import Path

import offramp

LIBRARY = Path(offramp.__file__).parent


def long_messages():
    """Places where a message is made of a whole ``repr``, but for keys of own files in runs/."""
    for path in LIBRARY.rglob("*.py"):
        if path.parent == LIBRARY / "runs":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for statement in ast.walk(tree):
            if isinstance(statement, ast.Raise) and "UserError" not in ast.unparse(statement):
                statement.exc = None  # Python's own errors speak to programmers
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
                yield f"{path.relative_to(LIBRARY)}:{node.lineno}: {ast.unparse(node)}"


def test_messages_show_no_value_at_length():
    assert not [*long_messages()]
