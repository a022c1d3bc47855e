import pytest
import torch
from torch import nn

from offramp import UserError
from offramp.nets import vgg7, vgg16


def test_a_stage_is_convolution_relu_norm_and_pools_at_the_end_of_a_block():
    kinds = [[type(layer) for layer in stage] for stage in vgg7(width=2).stages]
    unit = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert kinds == [unit, [*unit, nn.MaxPool2d]] * 3


@pytest.mark.parametrize(
    ("build", "size", "widths"),
    [(vgg7, 32, [1, 1, 2, 2, 4, 4]), (vgg16, 32, [1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8])],
)
def test_widths_and_logits(build, size, widths):
    net = build(num_classes=5, width=4).eval()
    assert [stage[0].out_channels for stage in net.stages] == [4 * w for w in widths]
    assert [head[2].in_features for head in net.heads] == [4 * w for w in widths]
    assert [tuple(z.shape) for z in net(torch.randn(2, 3, size, size))] == [(2, 5)] * len(widths)


def test_only_the_first_convolution_has_a_bias():
    net = vgg16(width=2)
    layers = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    with_bias = [n for n, m in layers.items() if m.bias is not None]
    assert len(layers) == 26
    assert with_bias == ["stages.0.0"]


def test_the_sliced_net_has_weights_only_for_what_is_read():
    net = vgg7(width=10, slice_beta=0.3)
    assert [stage[0].in_channels for stage in net.stages] == [3, 3, 3, 6, 6, 12]
    assert [head[2].in_features for head in net.heads] == [7, 7, 14, 14, 28, 40]


def test_the_sliced_net_uses_disjoint_channels_of_the_full_net():
    full, sliced = vgg7(width=4).double().eval(), vgg7(width=4, slice_beta=0.5).double().eval()
    with torch.no_grad():
        for i, (stage, head) in enumerate(zip(full.stages, full.heads, strict=True)):
            half = stage[0].out_channels // 2
            if i > 0:  # the next stage reads the first half: zero the rest in the full net
                keep = stage[0].in_channels // 2
                stage[0].weight[:, keep:] = 0
                sliced.stages[i][0].weight.copy_(stage[0].weight[:, :keep])
            else:
                sliced.stages[i].load_state_dict(stage.state_dict())
            if i < 5:  # the head reads the second half
                head[2].weight[:, :half] = 0
                sliced.heads[i][2].weight.copy_(head[2].weight[:, half:])
            else:
                sliced.heads[i].load_state_dict(head.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    for a, b in zip(full(x), sliced(x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("slice_beta", [0.0, 0.01, 0.99, 1.0, -1.0])
def test_a_slice_without_channels_is_refused(slice_beta):
    with pytest.raises(UserError, match="slice_beta"):
        vgg7(width=4, slice_beta=slice_beta)
