"""Accuracy against a slow loop over single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from offramp.metrics import accuracy, count_correct, evaluate


class Table(nn.Module):
    """K exits whose logits for image i are given; an image is its number."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.child = nn.Dropout()
        self.modes = []

    def forward(self, numbers):
        self.modes.append(self.training)
        return [exit_logits[numbers] for exit_logits in self.logits]


def slowly(logits, labels):
    exits, ensemble = [], 0
    for table in logits:
        top1 = top5 = 0
        for row, label in zip(table, labels, strict=True):
            better = sum(other > row[label] for other in row)
            top1 += better == 0
            top5 += better < min(5, len(row))
        exits.append((100 * top1 / len(labels), 100 * top5 / len(labels)))
    for i, label in enumerate(labels):
        total = [sum(float(table[i][c]) for table in logits) for c in range(len(logits[0][i]))]
        ensemble += int(np.argmax(total)) == label
    return exits, sum(top1 for top1, _ in exits) / len(exits), 100 * ensemble / len(labels)


@pytest.mark.parametrize("classes", [2, 4, 5, 9])
@pytest.mark.parametrize("batch_size", [1, 7, 23])
def test_equals_the_slow_loop(classes, batch_size):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, 23, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (23,), generator=generator)
    batches = [(part, labels[part]) for part in torch.arange(23).split(batch_size)]
    found = evaluate(Table(logits), batches)
    exits, average, ensemble = slowly(logits.numpy(), labels.tolist())
    np.testing.assert_allclose(found.exits, exits)
    assert found.average_top1 == pytest.approx(average)
    assert found.ensemble_top1 == pytest.approx(ensemble)
    if classes < 5:
        assert all(top5 == 100 for _, top5 in found.exits)


def test_ensemble_can_beat_every_exit():
    logits = torch.tensor([[[2.0, 3.0, 0.0]], [[2.0, 0.0, 3.0]]])
    found = evaluate(Table(logits), [(torch.tensor([0]), torch.tensor([0]))])
    assert [top1 for top1, _ in found.exits] == [0, 0]
    assert found.ensemble_top1 == 100


def test_modes_and_gradients_are_left_alone():
    net = Table(torch.randn(2, 4, 3))
    net.child.eval()
    batches = [(torch.arange(4), torch.zeros(4, dtype=torch.long))]
    evaluate(net, batches)
    assert net.modes == [False]
    assert net.training
    assert not net.child.training
    assert torch.is_grad_enabled()


def test_counts_of_parts_add_up():
    logits, labels = torch.randn(2, 10, 6), torch.randint(6, (10,))
    parts = [(part, labels[part]) for part in torch.arange(10).split(4)]
    net = Table(logits)
    assert accuracy(sum(count_correct(net, [part]) for part in parts)) == evaluate(net, parts)
    rest = count_correct(net, parts[1:])  # of another process, say
    assert evaluate(net, parts[:1], add_up=lambda counts: counts + rest) == evaluate(net, parts)


def test_no_batches():
    with pytest.raises(ValueError, match="no batches"):
        evaluate(Table(torch.randn(2, 1, 3)), [])
