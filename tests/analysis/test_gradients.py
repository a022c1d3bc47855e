import pytest
import torch
import torch.nn.functional as F
from steps import exit_batch

from offramp import UserError
from offramp.analysis import measuring, shared_owners, task_gradients
from offramp.nets import Separate


def test_each_output_s_gradient_on_what_it_shares(conv_net):
    net, images, targets = conv_net
    net.eval()
    found = task_gradients(net, exit_batch(images, targets))
    for k, gradients in enumerate(found.gradients):
        net.zero_grad()
        loss = F.cross_entropy(net(images)[k], targets)
        loss.backward()
        assert found.losses[k] == pytest.approx(loss.item(), rel=1e-12)
        # stage 0 serves exits 1, 2 and 3, stage 1 exits 2 and 3, stage 2 and the heads one exit each
        names = {
            n for n, _ in net.named_parameters() if n.startswith(("stages.0.", "stages.1.")[: 1 + (k > 0)])
        }
        assert set(gradients) == names
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, net.get_parameter(name).grad, rtol=1e-12, atol=1e-15)


def test_measuring_leaves_no_trace(conv_net, state):
    net, images, targets = conv_net
    net.stages[1].eval()
    before = state(net)
    with measuring(net):
        assert net.stages[0][1].training and not net.stages[0][3].training
        found = task_gradients(net, exit_batch(images, targets))
        assert found.losses_now() == found.losses  # no dropout in between
        with torch.no_grad():  # statistics of the batch: the size of a channel does not matter
            net.stages[0][0].weight *= 3
            net.stages[0][0].bias *= 3
            assert found.losses_now() == pytest.approx(found.losses, rel=1e-4)
            net.stages[0][0].weight /= 3
            net.stages[0][0].bias /= 3
    tensors, modes = state(net)
    assert modes == before[1]
    for name, value in before[0].items():
        torch.testing.assert_close(tensors[name], value, rtol=1e-12, atol=0)
    assert all(p.grad is None for p in net.parameters())


def test_measuring_cleans_up_after_an_error(conv_net, state):
    net, images, _ = conv_net
    before = state(net)
    with pytest.raises(RuntimeError, match="stop"), measuring(net):
        net(images)
        assert not torch.equal(net.stages[0][1].running_mean, before[0]["stages.0.1.running_mean"])
        raise RuntimeError("stop")
    tensors, modes = state(net)
    assert modes == before[1]
    assert all(torch.equal(tensors[name], value) for name, value in before[0].items())


def test_nothing_shared_is_nothing_to_diagnose(conv_net):
    with pytest.raises(UserError, match="share no parameter"):
        shared_owners(Separate(conv_net[0]))
