"""Backbones that this project did not write: how each is built, what it reads and where exits can be."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import transformers
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torchvision import models

CLASSES = 10


class Backbone(NamedTuple):
    """A row of the table.

    Attributes:
        build: Makes the backbone, with random weights.
        at: Modules to put exits after.
        side: Of its images; 0: it reads tokens, and a mask that tells which of them are padding.
    """

    build: Callable[[], nn.Module]
    at: list[str]
    side: int = 32

    def inputs(self, n: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """A batch; the last text is shorter than the others."""
        if self.side:
            return torch.randn(n, 3, self.side, self.side)
        mask = torch.ones(n, 6, dtype=torch.long)
        mask[-1, 4:] = 0
        return {"input_ids": torch.randint(1, 100, (n, 6)) * mask, "attention_mask": mask}

    def how(self) -> dict[str, object]:
        """What attach is told of the inputs."""
        return {"input_size": (3, self.side, self.side)} if self.side else {"example": self.inputs(2)}


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

# Those that every method trains.
PROVED = [
    tv("resnet50", "layer1", "layer3"),
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
    of_timm("vit_tiny_patch16_224", "blocks.3", "blocks.7", img_size=32),
    of_timm("swin_tiny_patch4_window7_224", "layers.0", "layers.1", img_size=32),
    of_timm("convnext_atto", "stages.0", "stages.1"),
    of_timm("mobilenetv4_conv_small", "blocks.1", "blocks.2"),
    of_timm("levit_128s", "stages.0", "stages.1", img_size=64, side=64),
    hf("ViT", "Image", "vit.layers.0", ids=False, image_size=32, patch_size=8, **SMALL),
    hf("Bert", "Sequence", "bert.encoder.layer.0", vocab_size=100, **SMALL),
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

BACKBONES = [
    *PROVED,
    of_timm("mobilevit_xxs", "stages.1", "stages.2", side=64),
    tv("resnet18", "layer1", "layer2"),
    tv("resnext50_32x4d", "layer1", "layer3"),
    tv("mobilenet_v2", "features.3", "features.10"),
    tv("regnet_y_400mf", "trunk_output.block1", "trunk_output.block2"),
    tv("shufflenet_v2_x1_0", "stage2", "stage3"),
    tv("squeezenet1_1", "features.5", "features.8"),
    tv("mnasnet0_5", "layers.8", "layers.10"),
    tv("googlenet", "maxpool3", "maxpool4", aux_logits=False, init_weights=False),
    of_timm("deit_tiny_patch16_224", "blocks.3", "blocks.7", img_size=32),
    of_timm("mixer_s32_224", "blocks.2", "blocks.5", img_size=64, side=64),
    of_timm("mobilenetv3_small_050", "blocks.1", "blocks.3"),
    of_timm("tf_efficientnet_b0", "blocks.1", "blocks.3"),
    of_timm("resnet10t", "layer1", "layer2"),
    of_timm("regnetx_002", "s1", "s2"),
    of_timm("ghostnet_100", "blocks.2", "blocks.4"),
    of_timm("repvgg_a0", "stages.0", "stages.1"),
    of_timm("edgenext_xx_small", "stages.0", "stages.1", side=64),
    of_timm("nf_resnet26", "stages.0", "stages.1"),
    of_timm("hrnet_w18_small", "layer1"),
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
]


@torch.no_grad()
def prepared(build: Callable[[], nn.Module]) -> nn.Module:
    """A backbone as trained ones are: norm layers with statistics, no layer at zero, modes that differ."""
    torch.manual_seed(0)
    backbone = build().eval()
    for parameter in backbone.parameters():
        if not parameter.any():
            parameter.uniform_(-0.1, 0.1)
    for module in backbone.modules():
        if isinstance(module, _NormBase):
            module.running_mean.uniform_(0.5, 1.5)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    next(backbone.children()).train()
    return backbone


def logits_of(backbone: nn.Module, x: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
    """What the backbone itself makes of a batch."""
    output = backbone(**x) if isinstance(x, dict) else backbone(x)
    return getattr(output, "logits", output)
