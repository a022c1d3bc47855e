"""An evaluation measures dense tasks as published, whatever its batch size and its number of processes."""

from __future__ import annotations

import pytest
from tiny_dense import dense_data, dense_net

from offramp.runs.evaluation import Evaluation
from offramp.tasks.evaluation import evaluate


def plain(batch, generator):
    return batch


def approximately(metrics):
    return {name: pytest.approx(values, rel=1e-5) for name, values in metrics.outputs.items()}


@pytest.fixture(scope="module")
def in_pairs():
    """A net, a test set of 7 images, and the metrics in batches of 2."""
    net, data = dense_net().eval(), dense_data()
    batches = data.test.batches(2, transform=plain, device="cpu")
    return net, data.test, evaluate(net, net.outputs, batches)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_the_batch_size_plays_no_part(in_pairs, batch_size):
    net, test, expected = in_pairs
    found = Evaluation(net, net.outputs, plain, batch_size)(test)
    assert found.outputs == approximately(expected)


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_number_of_processes_plays_no_part(in_pairs, world, batch_size, monkeypatch):
    net, test, expected = in_pairs
    sizes = []

    class Process:
        world_size = world

        def __init__(self, rank):
            self.global_rank = rank

    counts = dict.fromkeys(net.outputs, 0)
    for rank in range(world):
        monkeypatch.setattr("offramp.runs.evaluation.evaluate", lambda *args, **_: list(args[2]))
        for batch in Evaluation(net, net.outputs, plain, batch_size, Process(rank))(test):
            sizes.append(len(batch))
            outputs = net(batch.inputs)
            for (name, task), output in zip(net.outputs.items(), outputs, strict=True):
                if task.target in batch.targets:
                    counts[name] += task.counts(output.detach(), batch.targets[task.target])
    assert sum(sizes) == len(test)
    found = {name: net.outputs[name].metrics(each) for name, each in counts.items()}
    assert found == approximately(expected)
