"""Imports run one way: no file imports from a room that stands above its own.

`ROOMS` are the library's rooms from the ground up; each may import those before it. Imports inside functions
and those for annotations count too. Between files, in one room or in several, there is no circle either.

A file that no other folder imports, and from which its own folder's `__init__` takes no name, is private: it
starts with `_`. A subfolder is another folder. Tests, benchmarks and studies may look inside.
"""

import ast
from pathlib import Path

import offramp

SOURCE = Path(offramp.__file__).parent.parent
ROOMS = (
    "errors", "say", "paths", "copying", "modes", "unchanged", "attention", "autograd", "reentrant",
    "text_table", "plain_json", "plain_yaml", "text_file", "output_paths", "checks", "memory",
    "out_of_memory", "signals", "standard_streams", "stored_values", "restoring", "own_adam", "cores",
    "distributed",
    "data",                 # batches of inputs and targets
    "tasks",                # what an output predicts
    "forks",                # what crosses from a stage to its readers
    "flops",                # products of whatever runs
    "nets",
    "counting",
    "distributed",
    "methods._options", "methods.passes", "methods.seeded", "methods.objectives",
    "methods.balancers", "methods.combiners", "methods.by_parts", "methods._learner",
    "methods.regimes",
    "methods.bound",        # a method at work on a net, which a loop drives
    "methods.loops", "methods",
    "recipes",
    "runs",                 # a run on disk
    "exits",                # leaving early
    "training",
    "sweeps",
    "papers",
    "reports",
    "bundles",              # a net and its policy as a folder that runs without torch
    "analysis",
    "reproduce",            # published tables and figures
    "",                     # the names of `import offramp`
    "cli",
    "__main__",
)  # fmt: skip
ENTRY = "offramp.__main__"  # run and not imported


def modules() -> dict[str, Path]:
    """File of each module of the library."""
    paths = {}
    for path in SOURCE.glob("offramp/**/*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imports() -> dict[str, set[str]]:
    """Modules of the library that each of its modules imports, anywhere in its file."""
    paths = modules()
    imported: dict[str, set[str]] = {}
    for module, path in paths.items():
        imported[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = str(node.module)
                if node.level:  # as in what the runtime's wheel carries too, under another name
                    package = module.split(".")[: None if path.name == "__init__.py" else -1]
                    base = ".".join([*package[: len(package) - node.level + 1], base])
                whole = [f"{base}.{alias.name}" for alias in node.names]
                names = [name if name in paths else base for name in whole]
            else:
                continue
            imported[module] |= {name for name in names if name.partition(".")[0] == "offramp"} - {module}
    return imported


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


def folder_of(module: str, folders: set[str]) -> str:
    """Folder in which a file lies; an `__init__` lies in its own."""
    return module if module in folders else module.rpartition(".")[0]


def folders() -> set[str]:
    """Every folder of the library, as the module that its `__init__` is."""
    return {module for module, path in modules().items() if path.name == "__init__.py"}


def is_private(module: str) -> bool:
    """Whether the file is one that only its own folder may import."""
    return module.rpartition(".")[2].startswith("_")


def test_private_files_are_imported_in_their_own_folder_only():
    known = folders()
    strays = [
        f"{module} -> {other}"
        for module, others in imports().items()
        for other in others
        if is_private(other) and folder_of(module, known) != folder_of(other, known)
    ]
    assert not strays


def test_files_that_serve_their_own_folder_only_are_private():
    known = folders()
    offered = {
        other
        for module, others in imports().items()
        for other in others
        if module in known or folder_of(module, known) != folder_of(other, known)
    }
    files = {module for module in imports() if module not in known and not is_private(module)} - {ENTRY}
    assert not files - offered - carried()


def carried() -> set[str]:
    """Modules that the runtime's wheel has too, by links."""
    links = [path.resolve() for path in (SOURCE.parent / "runtime").rglob("*") if path.is_symlink()]
    return {module for module, path in modules().items() if path.resolve() in links}
