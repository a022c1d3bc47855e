"""The Adam of a balancer's numbers against torch's."""

import torch

from offramp.own_adam import OwnAdam


def test_it_is_torchs_adam_for_each_number():
    """Every number is a parameter of torch's own, with a gradient only where it is named."""
    torch.manual_seed(0)
    start = torch.randn(3)
    ours = OwnAdam(start.clone(), lr=0.03, weight_decay=0.01)
    theirs = [value.clone().requires_grad_() for value in start]
    adam = torch.optim.Adam(theirs, lr=0.03, weight_decay=0.01)
    for index in ([0, 1, 2], [0, 2], [1], [0, 1, 2], [2], [0, 1]):
        gradient = torch.randn(len(index))
        ours.descend(gradient, index)
        for k, value in enumerate(theirs):
            value.grad = gradient[index.index(k)].clone() if k in index else None
        adam.step()
        torch.testing.assert_close(ours.values, torch.stack([value.detach() for value in theirs]))


def test_its_state_is_whole():
    first, second = (OwnAdam(torch.zeros(2), lr=0.1) for _ in range(2))
    first.descend(torch.tensor([1.0, -2.0]), [0, 1])
    second.load_state_dict(first.state_dict())
    for adam in (first, second):
        adam.descend(torch.tensor([0.5, 0.5]), [0, 1])
    assert torch.equal(first.values, second.values)


def test_a_number_whose_gradient_is_not_finite_stays():
    """Neither it nor its moments: the others, and its later steps, are those without that gradient."""
    ours, same = (OwnAdam(torch.ones(2), lr=0.1, weight_decay=0.01) for _ in range(2))
    for bad in (torch.inf, -torch.inf, torch.nan):
        ours.descend(torch.tensor([1.0, bad]), [0, 1])
        same.descend(torch.tensor([1.0]), [0])
    for adam in (ours, same):
        adam.descend(torch.tensor([0.5, 0.5]), [0, 1])
    assert torch.equal(ours.values, same.values)
