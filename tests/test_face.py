"""What a user meets first: the names in offramp, its folders, and an import that is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import offramp

FACE = {
    "MultiExitNet",
    "Recipe",
    "Router",
    "Run",
    "UserError",
    "attach",
    "calibrate",
    "compare",
    "cost",
    "export",
    "fit",
    "load_pretrained",
    "method",
    "methods",
    "multi_task",
    "nets",
    "open_data",
    "partition",
    "remove",
    "tasks",
}
FOLDER = Path(offramp.__file__).parent
ROOMS = sorted(path.parent.name for path in FOLDER.glob("[a-z]*/__init__.py") if path.parent.name != "cli")


def test_completion_shows_what_a_user_needs_and_nothing_else():
    assert set(dir(offramp)) == set(offramp.__all__) == FACE
    for name in FACE:
        assert getattr(offramp, name) is not None


def test_a_type_checker_sees_the_face_and_the_folders():
    [block] = [
        node for node in ast.parse((FOLDER / "__init__.py").read_text()).body if isinstance(node, ast.If)
    ]
    imported = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported.pop("Any") == "typing"
    assert set(imported) == FACE | set(ROOMS)
    for name, module in imported.items():
        if module != "offramp":
            assert getattr(offramp, name) is getattr(import_module(module), name)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_folders_are_reachable_without_an_import_of_their_own():
    tries = [f"assert offramp.{room}.__name__ == 'offramp.{room}'" for room in ROOMS]
    python("\n".join(["import offramp", "offramp.forks.partition", *tries]))


def test_the_import_is_light():
    said = python(
        "import sys, offramp\n"
        "print([m for m in ('torch', 'numpy', 'offramp.nets') if m in sys.modules])\n"
        "for name in dir(offramp): getattr(offramp, name)\n"
        "heavy = 'lightning_fabric torchjd datasets torchvision timm transformers matplotlib tyro rich'\n"
        "print([m for m in heavy.split() if m in sys.modules])\n"
    )
    assert said == "[]\n[]\n"


@pytest.mark.parametrize("name", ["metods", "__main__", "__wrapped__", "_own"])
def test_there_is_no_other_name(name, monkeypatch):
    monkeypatch.delattr(offramp, name, raising=False)  # a module that another test has imported
    with pytest.raises(AttributeError, match=f"module 'offramp' has no attribute '{name}'"):
        getattr(offramp, name)
