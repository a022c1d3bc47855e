"""Backbones of torchvision, timm and transformers get exits, are trained, counted and looked at, unharmed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from torchvision import models

import offramp
from offramp.forks import partition, remove
from offramp.nets import MultiExitNet, attach, last_linear

CLASSES = 10


class Backbone(NamedTuple):
    build: Callable[[], nn.Module]
    at: list[str]
    side: int = 32  # 0: token ids


def tv(name: str, *at: str, side: int = 32, **options: object):
    return pytest.param(
        Backbone(lambda: getattr(models, name)(num_classes=CLASSES, **options), [*at], side),
        id=f"torchvision-{name}",
    )


def of_timm(name: str, *at: str, side: int = 32, **options: object):
    return pytest.param(
        Backbone(lambda: timm.create_model(name, num_classes=CLASSES, **options), [*at], side),
        id=f"timm-{name}",
    )


def hf(family: str, task: str, *at: str, ids: bool = True, **options: object):
    def build() -> nn.Module:
        config = getattr(transformers, f"{family}Config")(num_labels=CLASSES, **options)
        return getattr(transformers, f"{family}For{task}Classification")(config)

    return pytest.param(Backbone(build, [*at], 0 if ids else 32), id=f"transformers-{family}")


SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}

BACKBONES = [
    tv("resnet18", "layer1", "layer2"),
    tv("resnet50", "layer1", "layer3"),
    tv("resnext50_32x4d", "layer1", "layer3"),
    tv("mobilenet_v2", "features.3", "features.10"),
    tv("mobilenet_v3_small", "features.3", "features.8"),
    tv("efficientnet_b0", "features.3", "features.5"),
    tv("convnext_tiny", "features.1", "features.3"),
    tv("densenet121", "features.transition1", "features.transition2"),
    tv("swin_t", "features.1", "features.3"),
    tv(
        "VisionTransformer",
        "encoder.layers.encoder_layer_0",
        "encoder.layers.encoder_layer_1",
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    ),
    tv("regnet_y_400mf", "trunk_output.block1", "trunk_output.block2"),
    tv("shufflenet_v2_x1_0", "stage2", "stage3"),
    tv("squeezenet1_1", "features.5", "features.8"),
    tv("mnasnet0_5", "layers.8", "layers.10"),
    tv("googlenet", "maxpool3", "maxpool4", aux_logits=False, init_weights=False),
    of_timm("vit_tiny_patch16_224", "blocks.3", "blocks.7", img_size=32),
    of_timm("deit_tiny_patch16_224", "blocks.3", "blocks.7", img_size=32),
    of_timm("swin_tiny_patch4_window7_224", "layers.0", "layers.1", img_size=64, side=64),
    of_timm("mixer_s32_224", "blocks.2", "blocks.5", img_size=64, side=64),
    of_timm("convnext_atto", "stages.0", "stages.1"),
    of_timm("mobilenetv4_conv_small", "blocks.1", "blocks.2"),
    of_timm("mobilenetv3_small_050", "blocks.1", "blocks.3"),
    of_timm("levit_128s", "stages.0", "stages.1", side=224),
    of_timm("tf_efficientnet_b0", "blocks.1", "blocks.3"),
    of_timm("mobilevit_xxs", "stages.1", "stages.2", side=64),
    of_timm("resnet10t", "layer1", "layer2"),
    of_timm("regnetx_002", "s1", "s2"),
    of_timm("ghostnet_100", "blocks.2", "blocks.4"),
    of_timm("repvgg_a0", "stages.0", "stages.1"),
    of_timm("edgenext_xx_small", "stages.0", "stages.1", side=64),
    of_timm("nf_resnet26", "stages.0", "stages.1"),
    of_timm("hrnet_w18_small", "layer1"),
    hf("ViT", "Image", "vit.layers.0", ids=False, image_size=32, patch_size=8, **SMALL),
    hf(
        "ResNet",
        "Image",
        "resnet.encoder.stages.0",
        ids=False,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        embedding_size=8,
        layer_type="basic",
    ),
    hf("Bert", "Sequence", "bert.encoder.layer.0", vocab_size=100, **SMALL),
    hf(
        "DistilBert",
        "Sequence",
        "distilbert.transformer.layer.0",
        vocab_size=100,
        dim=16,
        n_layers=3,
        n_heads=2,
        hidden_dim=32,
    ),
    hf(
        "GPT2",
        "Sequence",
        "transformer.h.0",
        vocab_size=100,
        n_embd=16,
        n_layer=3,
        n_head=2,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    ),
]


def prepared(build: Callable[[], nn.Module]) -> nn.Module:
    """A backbone as trained ones are: norm layers with statistics, no layer at zero, modes that differ."""
    torch.manual_seed(0)
    backbone = build().eval()
    for parameter in backbone.parameters():
        if not parameter.any():
            nn.init.uniform_(parameter, -0.1, 0.1)
    for name, buffer in backbone.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    next(backbone.children()).train()
    return backbone


def state(net: nn.Module) -> dict[str, Any]:
    """All of a net that a look leaves as it was, and torch's random state."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        "random": torch.get_rng_state(),
        **{name: tensor.detach().clone() for name, tensor in tensors.items()},
        **{f"mode of {name}": torch.tensor(module.training) for name, module in net.named_modules()},
    }


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    assert [name for name in before if not torch.equal(after[name], before[name])] == []


def train_one_step(net: MultiExitNet, x: torch.Tensor) -> None:
    net.train()
    sum(F.cross_entropy(z, torch.tensor([1, 2])) for z in net(x)).backward()
    for k, stage in enumerate(net.stages):
        grads = [p.grad for p in stage.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in grads), k
        assert any(grad.any() for grad in grads), k
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("entry", BACKBONES)
def test_a_backbone_is_attached_partitioned_trained_and_counted(entry):
    backbone = prepared(entry.build)
    if entry.side:
        x = torch.randn(2, 3, entry.side, entry.side)
        options = {"input_size": x.shape[1:]}
    else:
        x = torch.randint(1, 100, (2, 6))
        options = {"example": x}

    before = state(backbone)
    net = attach(backbone, entry.at, **options)
    after = state(backbone)
    torch.set_rng_state(before["random"])
    for head in net.heads[:-1]:  # only their first weights are drawn
        drawn = nn.Linear(head[-1].in_features, CLASSES)
        assert torch.equal(drawn.weight, head[-1].weight)
    assert_same(after, before | {"random": torch.get_rng_state()})

    with torch.no_grad():
        whole, exits = backbone.eval()(x), net.eval()(x)
        assert torch.equal(exits[-1], getattr(whole, "logits", whole))
        assert [z.shape for z in exits] == [(2, CLASSES)] * (len(entry.at) + 1)
        assert all(map(torch.equal, partition(net)(x), exits))
        feature = net(x, keep=True).features[-1]
        if any(isinstance(module, nn.Linear) for module in backbone.modules()):
            assert feature.shape == (2, last_linear(net, net.num_exits).in_features)
        else:  # it ends in a convolution
            assert feature is None
    train_one_step(net, x)

    net.stages[0].eval()
    before = state(net)
    flops = [exit.flops for exit in offramp.cost(net).exits]
    owned = net.owners()
    assert_same(state(net), before)
    assert None not in flops and flops == sorted(flops) and flops[0] > 0
    for k in range(len(entry.at)):
        assert {owned[name] for name in owned if name.startswith(f"heads.{k}.")} == {frozenset({k})}

    remove(net)
    before = state(net)
    assert_same(state(remove(partition(net))), before)
