"""Imports run one way: no file imports from a room that stands above its own.

`ROOMS` are the library's rooms from the ground up; each may import those before it. Imports inside functions
and those for annotations count too. Between files, in one room or in several, there is no circle either.
"""

import ast
from pathlib import Path

import offramp

SOURCE = Path(offramp.__file__).parent.parent
ROOMS = (
    "errors", "say", "modes", "unchanged", "autograd", "text_table", "checks", "memory",
    "data",                 # batches of inputs and targets
    "tasks",                # what an output predicts
    "forks",                # what crosses from a stage to its readers
    "nets",
    "counting",
    "distributed",
    "methods.options", "methods.passes", "methods.objectives", "methods.balancers", "methods.combiners",
    "methods.bound",        # a method at work on a net, which a loop drives
    "methods.loops", "methods",
    "recipes",
    "runs",                 # a run on disk
    "exits",                # leaving early
    "training",
    "sweeps",
    "papers",
    "reports",
    "analysis",
    "",                     # the names of `import offramp`
    "cli",
    "__main__",
)  # fmt: skip


def imports() -> dict[str, set[str]]:
    """Modules of the library that each of its modules imports, anywhere in its file."""
    paths = {}
    for path in SOURCE.glob("offramp/**/*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for module, path in paths.items():
        found[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module}: relative imports are not read here"
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in paths else str(node.module) for name in whole]
            else:
                continue
            found[module] |= {name for name in names if name.partition(".")[0] == "offramp"} - {module}
    return found


def room_of(module: str) -> str:
    """Name of the smallest room that holds a module."""
    inside = module.partition(".")[2]
    return max((room for room in ROOMS if not room or f"{inside}.".startswith(f"{room}.")), key=len)


def test_every_room_has_a_place_in_the_order():
    strays = {module for module in imports() if room_of(module) == ""} - {"offramp"}
    assert not strays


def test_imports_go_down_the_order():
    upwards = [
        f"{module} -> {other}"
        for module, others in imports().items()
        for other in others
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    ]
    assert not upwards


def test_no_circle_between_files():
    left = imports()
    while free := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in free}
    assert not left, "these files import each other, or files that do"
