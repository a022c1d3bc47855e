"""Messages are Python's in Python and flags on the command line."""

import pytest

from offramp.cli._words import in_flags


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        ("train", "go on by `resume=True`", "go on by --resume"),
        ("train", "set `epochs=5`", "set --epochs 5"),
        ("train", "set `val_fraction=0.1`", "set --set val_fraction=0.1"),
        ("train", "`nesterov=False`", "--set nesterov=false"),
        ("train", "`train_limit=None`", "--set train_limit=null"),
        ("train", "`milestones=[60, 80]`", "--set 'milestones=[60, 80]'"),
        ("train", "`shared='union'` or `shared='first'`", "--set shared=union or --set shared=first"),
        ("train", "`gate='own', lean=True`", "--set gate=own --set lean=true"),
        ("eval", "give it by `net=...`", "give it by --net ..."),
        ("predict-maps", "give it by `net=...`", "give it by --net ..."),
        ("eval", "finish it by `fit(..., resume=True)`", "finish it by `offramp train ... --resume`"),
        ("train", "finish it by `fit(..., resume=True)`", "finish it by --resume"),
        ("compare", "`Recipe(val_fraction=0.1)`", "`offramp train --set val_fraction=0.1`"),
        ("compare", "`pick_lr=True`", "--pick-lr"),
        ("sweep", "`val_fraction=0.1`", "val_fraction=0.1"),  # a key of the sweep's file
        ("diagnose", "`what=['conflict', 'filters']`", "--what conflict filters"),
        ("diagnose", "`out='a b'`", "--out 'a b'"),
        # what is no setting stays
        ("train", "`pip install x`, `joint`, `partition(beta=0.5)`, `at=layers`", None),
        ("train", "a=1, `, resume=True", None),
        ("", "`resume=True`", None),
    ],
)
def test_settings_become_flags(command, text, told):
    assert in_flags(text, command) == (text if told is None else told)
