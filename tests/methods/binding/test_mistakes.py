"""Plain mistakes in a loop of one's own: one line each, and labels of any integer dtype are labels."""

import pytest
import torch
from binding_cases import assert_same, batches, grads_of, tiny_net

import offramp
from offramp import UserError

X, Y = next(iter(batches()))


def bound(name="joint"):
    return offramp.method(name).bind(tiny_net())


def twice(name):
    method = bound(name)
    losses = method.losses(X, Y)
    method.backward(losses)
    method.backward(losses)


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
