"""Thresholds, accuracies and operations of the published budgeted classification, number by number."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from offramp.exits import ExitLogits, Policy, decide
from offramp.exits.calibration.published import POINTS, planned, published, published_thresholds

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "budgeted.json").read_text())
ARRAYS = {name: torch.from_numpy(array) for name, array in np.load(DATA / "budgeted.npz").items()}
EXITS, SAMPLES, CLASSES = 7, 500, 10


class Costs:
    """The published costs of leaving at each exit."""

    def of(self, evaluated):
        return [GOLDEN["flops"][k - 1] for k in evaluated]


def recorded(split: str) -> ExitLogits:
    """Logits whose softmax has the recorded maximum, and the rest spread evenly."""
    confidence, prediction = ARRAYS[f"{split}_confidence"].double(), ARRAYS[f"{split}_prediction"].long()
    rest = ((1 - confidence) / (CLASSES - 1)).unsqueeze(-1).expand(-1, -1, CLASSES)
    probabilities = rest.scatter(-1, prediction.unsqueeze(-1), confidence.unsqueeze(-1))
    return ExitLogits(probabilities.log(), ARRAYS[f"{split}_label"].long())


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: row["p"])
def test_thresholds_come_out_exactly(row):
    counts = planned(SAMPLES, EXITS, row["p"] / 20)
    assert counts == row["planned_count"]
    found = published_thresholds(ARRAYS["val_confidence"][:-1], counts[:-1])
    assert [*found, -1e8] == row["threshold"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_accuracies_and_operations_come_out_exactly(split):
    val, measured = recorded("val"), recorded(split)
    for p, row in zip(POINTS, GOLDEN["rows"], strict=True):
        policy = published(val, Policy.full(EXITS), p / 20)
        decided = decide(measured, policy, Costs())
        assert policy.evaluated == (1, 2, 3, 4, 5, 6, 7)
        assert 100 * decided.accuracy == pytest.approx(row[f"{split}_acc"], abs=1e-9)
        counts = [round(SAMPLES * share) for share in decided.shares(EXITS)]
        assert counts == row[f"{split}_exits"]
        assert decided.mean_cost == pytest.approx(1e6 * row[f"{split}_flops"], rel=1e-5)  # float32 sums
