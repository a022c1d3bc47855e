"""Exits on backbones of other libraries: outputs, gradients and the router's answers on the device."""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _gpu.finding import Cases, Finding, Where, distance, flat
from _gpu.gradients import FLIPS
from _gpu.leaving import Answers, by_hand, policy_for, routed
from offramp import attach
from offramp.exits import Router
from offramp.nets import MultiExitNet

__all__ = ["attached"]

CLASSES, BATCH = 10, 8
OUTPUTS = 1e-4


def attached(where: Where) -> Cases:
    """A convolutional net of torchvision, a transformer of timm, and a BERT; those whose library works."""
    makers = {"torchvision resnet50": _resnet, "timm vit": _vit, "transformers bert": _bert}
    return {
        name: functools.partial(_compared, make, where.device)
        for name, make in ({} if where.small else makers).items()
        if _works(name.split()[0])
    }


def _works(library: str) -> bool:
    """Whether a library is there and fits this torch, which torchvision's operators may not."""
    try:
        importlib.import_module(library)
    except (ImportError, RuntimeError):
        return False
    return True


def _resnet() -> tuple[MultiExitNet, Any]:
    from torchvision.models import resnet50

    net = attach(resnet50(num_classes=CLASSES), at=["layer1", "layer2", "layer3"], input_size=(3, 64, 64))
    return net, torch.randn(BATCH, 3, 64, 64)


def _vit() -> tuple[MultiExitNet, Any]:
    import timm

    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, num_classes=CLASSES, depth=4, dynamic_img_size=False
    )
    net = attach(vit, at=["blocks.0", "blocks.2"], input_size=(3, 64, 64))
    return net, torch.randn(BATCH, 3, 64, 64)


def _bert() -> tuple[MultiExitNet, Any]:
    import transformers

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32, num_labels=CLASSES, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    bert = transformers.BertForSequenceClassification(config)
    mask = torch.ones(BATCH, 12, dtype=torch.int64)
    mask[0, 7:] = 0
    ids = {"input_ids": torch.randint(1, 50, (BATCH, 12)), "attention_mask": mask}
    net = attach(bert, at=["bert.encoder.layer.0", "bert.encoder.layer.1"], example=ids)
    return net, ids


def _compared(make: Callable[[], tuple[MultiExitNet, Any]], device: str) -> Mapping[str, Finding]:
    torch.manual_seed(0)
    net, inputs = make()
    targets = torch.randint(CLASSES, (BATCH,))

    def gradient(net: MultiExitNet, x: Any, there: str) -> tuple[Tensor, Tensor]:
        outputs = net.train()(x)
        wide = [o if o.dtype == torch.float64 else o.float() for o in outputs]
        torch.stack([F.cross_entropy(o, targets.to(there)) for o in wide]).sum().backward()
        gradients = flat({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
        return torch.cat([o.detach().flatten() for o in outputs]), gradients

    exact, here = copy.deepcopy(net).double(), copy.deepcopy(net).to(device)
    wanted = gradient(exact, _sent(inputs, "cpu", torch.float64), "cpu")
    found = gradient(here, _sent(inputs, device, torch.float32), device)
    x = _sent(inputs, device, torch.float32)
    here.eval()
    policy = policy_for(here, x, 0.5, range(1, here.num_exits))
    answer = Router(here, policy)(x)
    return {
        "outputs": Finding(distance(found[0], wanted[0]), OUTPUTS),
        "gradient": Finding(distance(found[1], wanted[1]), FLIPS),
        **routed(Answers(*answer[:3]), by_hand(here, policy, x), "float32"),
    }


def _sent(inputs: Any, device: str, dtype: torch.dtype) -> Any:
    if isinstance(inputs, dict):  # of whole numbers
        return {name: each.to(device) for name, each in inputs.items()}
    return inputs.to(device, dtype)
