"""Recorded logits: from every form of batches, with the samples that have a label, told apart by a digest."""

import pytest
import torch
from test_router import CLASSES, build, images
from tiny_runs import tiny_data, tiny_net
from torch.utils.data import DataLoader, TensorDataset

from offramp.data import Batch, Origin, Transform
from offramp.errors import UserError
from offramp.exits import ExitLogits
from offramp.nets import MultiExitNet
from offramp.tasks import Boxes, Classification

X, LABELS = images(7), torch.arange(7) % CLASSES
ODD = torch.tensor([0, -100, 2, 3, -100, 0, 1])


def test_every_exit_of_every_sample_is_recorded_in_evaluation_mode():
    net = build().train()
    recorded = ExitLogits.of(net, [(X[:3], LABELS[:3]), (X[3:], LABELS[3:])])
    assert net.training and recorded.logits.dtype == torch.float64
    assert (recorded.num_exits, len(recorded), recorded.classes) == (4, 7, CLASSES)
    with torch.no_grad():
        torch.testing.assert_close(recorded.logits, torch.stack(net.eval()(X)))
    assert torch.equal(recorded.labels, LABELS)
    assert ExitLogits.of(net.bfloat16(), [(X.bfloat16(), LABELS)]).logits.dtype == torch.float32


FORMS = {
    "pair": [(X, LABELS)],
    "list": [[X, LABELS]],
    "loader": DataLoader(TensorDataset(X, LABELS), 3),
    "batch": [Batch(X, {"label": LABELS})],
    "dict": [{"x": X, "labels": LABELS}],
    "probabilities": [(X, torch.nn.functional.one_hot(LABELS, CLASSES) * 0.9 + 0.02)],
}


class Named(MultiExitNet):
    def forward(self, x, **rest):
        return super().forward(x["x"] if isinstance(x, dict) else x, **rest)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_batches(form):
    net = build()
    net.__class__ = Named
    recorded = ExitLogits.of(net, FORMS[form])
    expected = ExitLogits.of(net, [(X, LABELS)])
    torch.testing.assert_close(recorded.logits, expected.logits)
    assert torch.equal(recorded.labels, LABELS)
    assert recorded.digest == expected.digest


def test_samples_without_a_label_do_not_count():
    net, has = build(), ODD >= 0
    recorded = ExitLogits.of(net, [(X, ODD), (X[:1], ODD[1:2]), Batch(X, {})])
    expected = ExitLogits.of(net, [(X[has], ODD[has])])
    torch.testing.assert_close(recorded.logits, expected.logits)
    assert recorded.labels.tolist() == [0, 2, 3, 0, 1] and recorded.digest == expected.digest


def test_the_digest_is_of_the_samples_whatever_their_order():
    net, order = build(), torch.randperm(7, generator=torch.Generator().manual_seed(0))
    digest = ExitLogits.of(net, [(X, LABELS)]).digest
    assert len(digest) == 16
    assert ExitLogits.of(net, [(X[order], LABELS[order])]).digest == digest
    other = LABELS.clone()
    other[0] = 1
    assert ExitLogits.of(net, [(X, other)]).digest != digest
    assert ExitLogits.of(net, [(X + 1e-9, LABELS)]).digest != digest


def test_batches_of_a_set_say_where_they_come_from():
    data, net, clean = tiny_data(), tiny_net(), Transform((0.5,) * 3, (0.5,) * 3)
    for split in ("train", "val", "test"):
        batches = getattr(data, split).batches(4, transform=clean, device="cpu")
        recorded = ExitLogits.of(net, (batch.channels_last().first(3) for batch in batches))
        assert recorded.origin == Origin("noise", split, is_test=split == "test")
    assert ExitLogits.of(build(), [(X, LABELS)]).origin is None


def broken(value: float) -> MultiExitNet:
    net = build()
    net.heads[2][2].bias.data[1] = value
    return net


@pytest.mark.parametrize(
    ("net", "batches", "message"),
    [
        (broken(torch.nan), [(X, LABELS)], "logits of sample 0 at exit 3 are not finite"),
        (broken(torch.inf), [(X, LABELS)], "logits of sample 0 at exit 3 are not finite"),
        (build(), [], "no sample with a label"),
        (build(), [(X, torch.full((7,), -100))], "no sample with a label"),
        (build(), [Batch(X, {})], "no sample with a label"),
        (build(), [X], "a batch to calibrate on is a pair"),
        (build(), [(X, None)], "a batch to calibrate on is a pair"),
        (build(), [{"x": X}], "a batch to calibrate on is a pair"),
        (build(), [(X, LABELS + 1)], "a label is 5, the net's classes are 0 to 4"),
        (build(), [(X, LABELS - 1)], "a label is -1, the net's classes are 0 to 4"),
        (build(), [(X, LABELS[:3])], r"labels of a batch of 7 samples are torch.int64 \[3\]"),
        (build(), [(X, LABELS.float())], r"are torch.float32 \[7\]"),
        (
            tiny_net(classes=1),
            [(torch.zeros(2, 3, 8, 8), torch.zeros(2).long())],
            "the net has one class, so that there is nothing",
        ),
        (torch.nn.Linear(2, 2), [(X, LABELS)], "net is a Linear without exits"),
    ],
)
def test_what_cannot_be_recorded_gives_one_line(net, batches, message):
    with pytest.raises(UserError, match=message):
        ExitLogits.of(net, batches)


def test_a_net_of_other_tasks_is_refused():
    net = build()
    net.outputs = dict.fromkeys(net.outputs, Boxes())
    with pytest.raises(UserError, match="exit 1 has the task Boxes"):
        ExitLogits.of(net, [(X, LABELS)])
    tasks = [Classification(target=name) for name in ("a", "a", "b", "a")]
    net.outputs = dict(zip(net.outputs, tasks, strict=True))
    with pytest.raises(UserError, match="look for a and b"):
        ExitLogits.of(net, [(X, LABELS)])


def test_recorded_logits_have_three_axes():
    with pytest.raises(UserError, match=r"\[K, N, classes\] with N labels, got \[2, 3\] with \[3\]"):
        ExitLogits(torch.zeros(2, 3), torch.zeros(3).long())
