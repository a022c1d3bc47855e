"""Plain mistakes in a loop of one's own: one line each, and labels of any integer dtype are labels."""

import pytest
import torch
from binding_cases import assert_same, batches, grads_of, tiny_net
from torch.utils.checkpoint import checkpoint

import offramp
from offramp import UserError
from offramp.counting.training import training_macs

X, Y = next(iter(batches()))


def bound(name="joint"):
    return offramp.method(name).bind(tiny_net())


def twice(name):
    method = bound(name)
    losses = method.losses(X, Y)
    method.backward(losses)
    method.backward(losses)


class Checkpointed(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=True)


def checkpointed():
    net = tiny_net()
    net.stages[1] = Checkpointed(net.stages[1])
    return net


MISTAKES = {
    "a column of labels": (lambda: bound().losses(X, Y[:, None]), "give one class index for each sample"),
    "labels of others": (lambda: bound().losses(X, Y[:-1]), "give one class index for each sample"),
    "numbers": (lambda: bound().losses(X, Y.double()), "give one class index for each sample"),
    "a class too many": (lambda: bound().losses(X, Y + 50), "a label is out of range"),
    "a negative class": (lambda: bound().losses(X, Y - 50), "a label is out of range"),
    "twice": (lambda: twice("joint"), "have gone backward already; call losses"),
    "twice, by rows": (lambda: twice("cagrad"), "have gone backward already; call losses"),
    "the whole and more": (
        lambda: bound().backward(X, Y, whole=Y, more=True), "^more=True says that other micro-batches"
    ),
    "more alone": (lambda: bound().backward(X, Y, more=True), "^more=True says that other micro-batches"),
    "no epochs": (lambda: bound().progress(0, 0), "^epochs is 0, must be 1 or more"),
    "another state": (
        lambda: bound("cagrad").load_state_dict(bound("kd").state_dict()),
        "^the state holds objective.temperature, and 'cagrad' on this net has combiner._extra_state; give",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "line"), MISTAKES.values(), ids=MISTAKES)
def test_one_line(call, line):
    with pytest.raises(UserError, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cagrad", "nash-mtl", "adatask", "gradnorm", "bdl-2", "mgda-ub"])
def test_checkpoints_that_have_no_gradients_of_some_weights_alone(name):
    with pytest.raises(UserError, match=r"use_reentrant=True, .* give it use_reentrant=False$"):
        offramp.method(name).bind(checkpointed()).backward(X, Y)


def test_training_operations_of_such_checkpoints():
    with pytest.raises(UserError, match=r"use_reentrant=True, .* give it use_reentrant=False$"):
        training_macs(checkpointed())


@pytest.mark.parametrize("name", ["joint", "dfs", "kd"])
def test_methods_that_go_backward_once_take_all_checkpoints(name):
    one, other = (offramp.method(name).bind(net) for net in (checkpointed(), tiny_net()))
    assert torch.equal(one.backward(X, Y), other.backward(X, Y))
    assert_same(grads_of(one.net), grads_of(other.net), 1e-12)


class Shift(torch.nn.Embedding):
    def forward(self, x):
        return x + super().forward(torch.zeros(len(x), dtype=torch.int64))[:, :, None, None]


class Turn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.by = torch.nn.Parameter(torch.ones(6, 1, 1, dtype=torch.complex128))

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.by, s=x.shape[-2:])


def with_layer(layer):
    net = tiny_net()
    net.stages[1].append(layer)
    return net


@pytest.mark.parametrize("name", ["cagrad", "adatask", "bdl-2", "mgda-ub"])
def test_sparse_gradients(name):
    with pytest.raises(UserError, match=r"^the gradient of 'stages.1.3' is sparse, .*sparse=False$"):
        offramp.method(name).bind(with_layer(Shift(2, 6, sparse=True, dtype=torch.float64)))


def test_sparse_gradients_under_a_recipe():
    net = with_layer(Shift(2, 6, sparse=True)).float()
    recipe = offramp.Recipe(epochs=1, batch_size=2, augment="none", val_fraction=0.0)
    with pytest.raises(UserError, match=r"^the gradient of 'stages.1.3' is sparse"):
        offramp.fit(net, (X.float(), torch.arange(6) % 3), "joint", recipe, quiet=True)


@pytest.mark.parametrize("name", ["cagrad", "adatask", "gradnorm"])
def test_complex_weights(name):
    with pytest.raises(UserError, match=r"^'stages.1.3.by' is complex, .*torch.view_as_complex"):
        offramp.method(name).bind(with_layer(Turn()))
    offramp.method("dfs").bind(with_layer(Turn())).backward(X, Y)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8])
def test_labels_of_any_integer_dtype(dtype):
    one, other = bound(), bound()
    assert torch.equal(one.backward(X, Y), other.backward(X, Y.to(dtype)))
    assert_same(grads_of(one.net, one), grads_of(other.net, other))


@pytest.mark.parametrize("name", ["joint", "cagrad", "kd", "uncertainty"])
def test_a_state_of_the_same_method_is_loaded(name):
    one, other = bound(name), bound(name)
    one.backward(X, Y)
    other.load_state_dict(one.state_dict())
    assert str(other.state_dict()) == str(one.state_dict())
