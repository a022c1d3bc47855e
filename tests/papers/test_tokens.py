"""The published settings of Deep Feature Surgery on tokens, on backbones of timm and transformers."""

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers

from offramp import Recipe, attach
from offramp.methods import method
from offramp.nets import MultiExitNet

WIDTH = 16


def vit() -> MultiExitNet:
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=3, embed_dim=WIDTH, num_heads=2, num_classes=4
    )
    return attach(backbone, at=["blocks.0", "blocks.1"])


def bert() -> MultiExitNet:
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=4,
    )
    ids = torch.randint(1, 20, (2, 5))
    return attach(
        transformers.BertForSequenceClassification(config),
        at=[f"bert.encoder.layer.{i}" for i in range(2)],
        example=ids,
    )


@pytest.mark.parametrize(
    ("name", "build", "own_trains_shared"), [("official_vit", vit, True), ("official_bert", bert, False)]
)
def test_who_trains_which_channels(name, build, own_trains_shared):
    """Reach of the losses as the authors' files have it: the first half of the channels is shared."""
    torch.manual_seed(0)
    net = build().eval()
    x = net.sample(2)
    plain = net(x)
    method("dfs", Recipe.load(name).options).prepare(net)
    found = net(x, keep=True)
    assert all(map(torch.equal, found.outputs, plain))
    tokens = [feature[-1] if isinstance(feature, tuple) else feature for feature in found.trunk]
    for k, feature in enumerate(tokens):
        assert feature.shape[-1] == WIDTH and feature.ndim == 3
        own, later = (
            torch.autograd.grad(loss, feature, retain_graph=True)[0].abs().sum((0, 1)) > 0
            for loss in (
                F.cross_entropy(found.outputs[k], torch.tensor([0, 1])),
                found.outputs[-1].square().sum(),
            )
        )
        half = WIDTH // 2
        assert own[half:].all() and bool(own[:half].any()) is own_trains_shared
        assert later[:half].all() and not later[half:].any()
