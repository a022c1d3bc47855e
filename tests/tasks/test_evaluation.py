"""Metrics of a net's outputs, against a slow loop over single images."""

from __future__ import annotations

import copy
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from offramp.data import Batch
from offramp.tasks import Classification
from offramp.tasks.evaluation import evaluate


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


def batch(numbers, labels):
    return Batch(numbers, {"label": labels})


def exits(net):
    return {f"exit {k}": Classification() for k in range(1, len(net.logits) + 1)}


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
    return exits, 100 * ensemble / len(labels)


@pytest.mark.parametrize("classes", [2, 4, 5, 9])
@pytest.mark.parametrize("batch_size", [1, 7, 23])
def test_equals_the_slow_loop(classes, batch_size):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, 23, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (23,), generator=generator)
    batches = [batch(part, labels[part]) for part in torch.arange(23).split(batch_size)]
    net = Table(logits)
    found = evaluate(net, exits(net), batches)
    expected, ensemble = slowly(logits.numpy(), labels.tolist())
    assert [*found.outputs] == ["exit 1", "exit 2", "exit 3"]
    np.testing.assert_allclose([[v["top1"], v["top5"]] for v in found.outputs.values()], expected)
    assert found.ensemble["top1"] == pytest.approx(ensemble)
    if classes < 5:
        assert all(values["top5"] == 100 for values in found.outputs.values())


def test_ensemble_can_beat_every_exit():
    logits = torch.tensor([[[2.0, 3.0, 0.0]], [[2.0, 0.0, 3.0]]])
    net = Table(logits)
    found = evaluate(net, exits(net), [batch(torch.tensor([0]), torch.tensor([0]))])
    assert [values["top1"] for values in found.outputs.values()] == [0, 0]
    assert found.ensemble["top1"] == 100


def test_modes_and_gradients_are_left_alone():
    net = Table(torch.randn(2, 4, 3))
    net.child.eval()
    batches = [batch(torch.arange(4), torch.zeros(4, dtype=torch.long))]
    evaluate(net, exits(net), batches)
    assert net.modes == [False]
    assert net.training
    assert not net.child.training
    assert torch.is_grad_enabled()


def test_counts_of_processes_add_up():
    logits, labels = torch.randn(2, 10, 6), torch.randint(6, (10,))
    parts = [batch(part, labels[part]) for part in torch.arange(10).split(4)]
    net = Table(logits)
    of_other = []
    evaluate(net, exits(net), parts[1:], total=lambda counts: of_other.append(counts) or counts)
    both = evaluate(net, exits(net), parts[:1], total=lambda counts: counts + of_other.pop(0))
    assert both == evaluate(net, exits(net), parts)


def test_outputs_without_a_target_are_left_out():
    net = Table(torch.randn(2, 3, 4))
    tasks = {"a": Classification(), "b": Classification(target="other")}
    found = evaluate(net, tasks, [batch(torch.arange(3), torch.zeros(3, dtype=torch.long))])
    assert [*found.outputs] == ["a"]
    assert found.ensemble is None


class Processes:
    """Sums over two processes, which wait for each other as those of an all-reduce do."""

    def __init__(self):
        self.barrier, self.sent = threading.Barrier(2), [None, None]

    def total(self, rank, counts):
        self.sent[rank] = counts
        self.barrier.wait(timeout=20)
        assert self.sent[0].shape == self.sent[1].shape and self.sent[0].dtype == self.sent[1].dtype
        both = self.sent[0] + self.sent[1]
        self.barrier.wait(timeout=20)
        return both


def over_processes(net, tasks, shares):
    processes = Processes()
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                evaluate, copy.deepcopy(net), tasks, batches, total=functools.partial(processes.total, rank)
            )
            for rank, batches in enumerate(shares)
        ]
        return [job.result() for job in jobs]


WITH = Batch(torch.arange(3), {"label": torch.tensor([1, 0, 3]), "other": torch.tensor([2, 2, 0])})
WITHOUT = Batch(torch.arange(3, 5), {"label": torch.tensor([3, 1])})
EMPTY = Batch(torch.arange(0), {})  # the share of a last batch of fewer samples than processes


@pytest.mark.parametrize("tasks", [["label", "other"], ["other", "other"], ["label", "nobody"]])
@pytest.mark.parametrize("there", [[WITHOUT], [EMPTY], [WITHOUT, WITHOUT], [EMPTY, EMPTY]])
def test_a_process_that_never_sees_a_target_takes_part_in_its_sum(tasks, there):
    """Processes that send another number of messages would wait for each other for ever."""
    net = Table(torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)))
    tasks = {name: Classification(target=target) for name, target in zip("ab", tasks, strict=True)}
    alone = evaluate(net, tasks, [WITH, *there])
    for shares in ([[WITH], there], [there, [WITH]]):
        assert over_processes(net, tasks, shares) == [alone, alone]
    assert ("b" in alone.outputs) == (tasks["b"].target != "nobody")


def test_no_batches():
    net = Table(torch.randn(2, 1, 3))
    with pytest.raises(ValueError, match="no batches"):
        evaluate(net, exits(net), [])
