"""A balancer in the loop: the rows of a combiner are those of the weighted losses."""

import pytest
import torch
from context_cases import bench, run_epoch, tiny_net

S = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
FIXED = (0.5 * torch.exp(-S)).tolist()


@pytest.mark.parametrize("options", [{}, {"lean": True}, {"part": 0.5}, {"every": 2}])
def test_a_step_is_that_of_fixed_weights(options):
    """Also where the rows come from a part of the batch, in a forward pass of its own."""
    nets = []
    for name, weights in (("upgrad+uncertainty", {}), ("upgrad", {"weights": FIXED})):
        net = tiny_net()
        work = bench(net, name, shared="union", **options, **weights)
        if not weights:
            work.context.bound.balancer.double().log_variances.data = S.clone()
        run_epoch(work, 0, 1)
        nets.append(net.state_dict())
    torch.testing.assert_close(*nets, rtol=1e-9, atol=1e-12)
