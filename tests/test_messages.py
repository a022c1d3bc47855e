"""Messages show what a user gave by ``shown`` of the errors, and never its whole ``repr``."""

import ast
from pathlib import Path

import offramp_runtime

import offramp

LIBRARY = Path(offramp.__file__).parent
RUNTIME = Path(offramp_runtime.__file__).parent
OURS = ("UserError", "InputError", "BundleError", "HTTPException")


def long_messages():
    """Places where a message is made of a whole ``repr``, but for keys of own files in runs/."""
    for path in [*LIBRARY.rglob("*.py"), *RUNTIME.rglob("*.py")]:
        if path.parent == LIBRARY / "runs":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for statement in ast.walk(tree):
            if isinstance(statement, ast.Raise) and not any(o in ast.unparse(statement) for o in OURS):
                statement.exc = None  # Python's own errors speak to programmers
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
                yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def test_messages_show_no_value_at_length():
    assert not [*long_messages()]
