"""Only a task knows its loss: every other part asks the task of an output."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import offramp

SOURCE = Path(offramp.__file__).parent
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path.relative_to(SOURCE).parts[0] != "tasks"]
LOSSES = {"cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss", "kl_div", "KLDivLoss"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_loss_of_classification_is_called_outside_tasks(path):
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Attribute, ast.Name))
    }
    assert not names & LOSSES
