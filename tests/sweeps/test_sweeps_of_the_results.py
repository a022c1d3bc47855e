"""The sweep files beside the tables still say what they are said to say."""

from pathlib import Path

import pytest

from offramp.sweeps.file import read_sweep

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize("file", sorted(RESULTS.rglob("*.yaml")), ids=lambda f: str(f.relative_to(RESULTS)))
def test_every_sweep_file_can_be_read(file):
    assert read_sweep(file).entries


def test_the_augmented_rows_are_alike_and_match_in_passes():
    sweep = read_sweep(RESULTS / "dr-mgf" / "augmented.yaml")
    assert len(sweep.seeds) == 3
    assert {entry.recipe.augment for entry in sweep.entries} == {"crop-flip"}
    assert len({str(entry.recipe.replace(epochs=1, options={})) for entry in sweep.entries}) == 1
    passes = {e.label: e.recipe.epochs * e.method.passes.joint(7) for e in sweep.entries}
    assert passes["joint epochs=48"] == passes["dr-mgf"] == passes["meta-gf"] == 48
    assert passes["dr-avgf"] == pytest.approx(44)
