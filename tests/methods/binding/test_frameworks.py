"""The loops that people have: plain PyTorch, Accelerate, Lightning by hand, and Hugging Face's Trainer.

Where Accelerate or Lightning is not installed, a stand-in does what their documentation says of the backward
pass; where it is, the real one is tried too.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from binding_cases import assert_same, batches, grads_of, tiny_net
from torch import Tensor

import offramp
from offramp.methods import method

PAGE = Path(__file__).parents[3] / "docs" / "your_own_loop.md"
NAMES = ["joint", "dfs", "kd", "uncertainty", "cagrad", "pcgrad", "bdl-1", "graddrop"]
SCALE = 1024.0


def trained(name: str, backward, **settings):
    """Gradients at each of three steps of plain SGD."""
    net = tiny_net()
    bound = method(name).bind(net).double()
    optimizer = torch.optim.SGD([*net.parameters(), *bound.parameters()], lr=0.05)
    found = []
    for images, labels in batches():
        optimizer.zero_grad()
        backward(bound, images, labels)
        found += grads_of(net, bound)
        optimizer.step()
    return found


class Accelerator:
    """``accelerator.backward``: "Scales the gradients in accordance to the GradientAccumulationPlugin"."""

    def __init__(self, gradient_accumulation_steps: int = 1) -> None:
        self.steps = gradient_accumulation_steps
        self.calls = 0

    def backward(self, loss: Tensor) -> None:
        self.calls += 1
        (loss / self.steps).backward()


@pytest.fixture(autouse=True)
def _own_precision():
    """Accelerate keeps the first precision of a process."""
    yield
    if "accelerate" in sys.modules:
        sys.modules["accelerate"].state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("package", ["stand-in", "accelerate"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_accelerate(package, name):
    expected = trained(name, lambda bound, *batch: bound.backward(*batch))
    kind = Accelerator if package == "stand-in" else pytest.importorskip(package).Accelerator
    accelerator = kind(gradient_accumulation_steps=4)
    found = trained(name, lambda bound, *batch: bound.backward(*batch, run=accelerator.backward))
    # the first step starts from the same weights: a power of two changes no digit
    count = len(found) // 3
    assert_same([g if g is None else 4 * g for g in found[:count]], expected[:count])
    if package == "stand-in":
        assert accelerator.calls == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_scaler(name):
    (images, labels), nets = next(batches()), (tiny_net(), tiny_net())
    expected = method(name).bind(nets[0]).double()
    expected.backward(images, labels)
    bound = method(name).bind(nets[1]).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    optimizer = torch.optim.SGD([*nets[1].parameters(), *bound.parameters()], lr=0.05)
    bound.backward(images, labels, scaler=scaler)
    assert_same(
        [g if g is None else g / SCALE for g in grads_of(nets[1], bound)], grads_of(nets[0], expected)
    )
    scaler.unscale_(optimizer)
    assert_same(grads_of(nets[1], bound), grads_of(nets[0], expected))
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("name", ["joint", "cagrad", "pcgrad", "bdl-1"])
def test_an_overflow_skips_the_step(name):
    (images, labels), net = next(batches()), tiny_net()
    bound = method(name).bind(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    before = [p.detach().clone() for p in net.parameters()]
    losses = bound.losses(images, labels)
    losses[0] = losses[0] * torch.inf
    bound.backward(losses, scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == SCALE / 2
    assert_same([p.detach() for p in net.parameters()], before)


@pytest.mark.parametrize("name", ["joint", "cagrad", "mgda"])
def test_autocast_is_for_the_forward_pass(name):
    """All of it under autocast gives what the forward pass alone under it gives."""
    found = []
    for both in (False, True):
        net = tiny_net().float()
        bound = method(name).bind(net)
        images, labels = next(batches())
        with torch.autocast("cpu", torch.bfloat16):
            if both:
                bound.backward(images.float(), labels)
            else:
                losses = bound.losses(images.float(), labels)
        if not both:
            bound.backward(losses)
        found.append(grads_of(net))
    assert_same(*found)


def test_weights_from_a_part_of_the_batch_come_from_the_same_autocast():
    net, (images, labels) = tiny_net().float(), next(batches())
    seen = []
    net.heads[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    bound = method("cagrad", {"shared": "union", "part": 0.5}).bind(net)
    with torch.autocast("cpu", torch.bfloat16):
        losses = bound.losses(images.float(), labels)
    bound.backward(losses)
    assert seen == [torch.bfloat16] * 2


class Module(torch.nn.Module):
    """``manual_backward``: "Call this directly when doing optimizations manually"; it calls ``backward``."""

    def manual_backward(self, loss: Tensor, *args, **kwargs) -> None:
        loss.backward(*args, **kwargs)

    def optimizers(self):
        return self.optimizer

    def log(self, name, value) -> None:
        assert value.isfinite()


class Trainer:
    """``fit``: training mode, ``configure_optimizers``, and ``training_step`` for every batch."""

    def __init__(self, max_epochs: int, **settings) -> None:
        self.epochs = max_epochs

    def fit(self, module, loader) -> None:
        module.train()
        module.optimizer = module.configure_optimizers()
        for _ in range(self.epochs):
            for index, batch in enumerate(loader):
                module.training_step(batch, index)


@pytest.mark.parametrize("package", ["stand-in", "pytorch_lightning"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_lightning_by_hand(package, name):
    real = None if package == "stand-in" else pytest.importorskip(package)
    base, trainer = (Module, Trainer) if real is None else (real.LightningModule, real.Trainer)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}

    class Training(base):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = tiny_net()
            self.method = method(name).bind(self.net).double()
            self.found = []

        def training_step(self, batch, batch_index):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.log("loss", self.method.backward(*batch, run=self.manual_backward).sum())
            self.found += grads_of(self.net, self.method)
            optimizer.step()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    training = Training()
    loader = torch.utils.data.DataLoader(list(batches()), batch_size=None)
    trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet).fit(training, loader)
    assert_same(training.found, trained(name, lambda bound, *batch: bound.backward(*batch)))


@pytest.mark.parametrize("name", ["joint", "uncertainty", "cagrad", "pcgrad"])
@pytest.mark.filterwarnings("ignore")
def test_lightning_scales_the_losses(name):
    """Under fp16 its precision plugin scales what goes backward, and unscales before the step.

    The net is in float64, which autocast leaves alone: a power of two changes no digit.
    """
    lightning = pytest.importorskip("pytorch_lightning")
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)

    class Training(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = tiny_net()
            self.method = method(name).bind(self.net).double()
            self.found = []

        def training_step(self, batch, batch_index):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.method.backward(*batch, run=self.manual_backward)
            self.found += [g if g is None else g / SCALE for g in grads_of(self.net, self.method)]
            optimizer.step()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    training = Training()
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        plugins=[lightning.plugins.MixedPrecision("16-mixed", "cpu", scaler)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(training, torch.utils.data.DataLoader(list(batches()), batch_size=None))
    assert scaler.get_scale() == SCALE
    assert_same(training.found, trained(name, lambda bound, *batch: bound.backward(*batch)), 1e-12)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("python"):
        packages = re.findall(
            r"^(?:from|import) (accelerate|pytorch_lightning|transformers)\b", block, re.MULTILINE
        )
        if all(importlib.util.find_spec(package) for package in packages):
            exec(compile(block, str(PAGE), "exec"), names)
    saved = torch.load("last.pt", weights_only=True)
    net = offramp.nets.vgg7(num_classes=10, width=8)
    offramp.method("dfs+cagrad", beta=0.7).bind(net).load_state_dict(saved["method"])


def trainer_of_the_page(transformers):
    names: dict[str, object] = {"torch": torch}
    (block,) = [block for block in blocks("python") if "transformers.Trainer" in block]
    exec(compile(block, str(PAGE), "exec"), names)
    return names["Training"]


@pytest.mark.parametrize("name", ["dfs+cagrad", "kd", "uncertainty"])
@pytest.mark.filterwarnings("ignore")
def test_hugging_faces_trainer(name, tmp_path):
    """It ends at the weights of a plain loop over the same batches, and evaluates every exit."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    tokens = torch.arange(1, 17).reshape(4, 4)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    labels = torch.tensor([0, 1, 1, 0])
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        bert = transformers.BertForSequenceClassification(config)
        net = offramp.attach(bert, at=["bert.encoder.layer.0"], example=inputs)
        bound = method(name).bind(net)
        nets.append((net, bound, torch.optim.SGD([*net.parameters(), *bound.parameters()], lr=0.5)))
    (plain, bound, optimizer), (net, by_trainer, its) = nets
    plain.train()
    for _ in range(2):
        for part in (slice(0, 2), slice(2, 4)):
            optimizer.zero_grad()
            bound.backward({key: value[part] for key, value in inputs.items()}, labels[part])
            optimizer.step()

    seen = []
    trainer = trainer_of_the_page(transformers)(
        net,
        transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=2, per_device_train_batch_size=2, max_grad_norm=0.0, use_cpu=True,
            lr_scheduler_type="constant", report_to=[], save_strategy="no", disable_tqdm=True,
            remove_unused_columns=False, label_names=["labels"],
        ),
        method=by_trainer,
        train_dataset=[
            {**{key: value[k] for key, value in inputs.items()}, "labels": labels[k]} for k in range(4)
        ],
        optimizers=(its, None),
        compute_metrics=lambda predicted: seen.extend(predicted.predictions) or {},
    )  # fmt: skip
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(labels)
    trainer.train()
    assert_same([p.detach() for p in net.parameters()], [p.detach() for p in plain.parameters()], 1e-6)
    trainer.evaluate(trainer.train_dataset)
    net.eval()
    for logits, of_trainer in zip(net(inputs), seen, strict=True):
        torch.testing.assert_close(torch.from_numpy(of_trainer), logits.detach())


def test_at_most_four_lines_of_a_plain_loop_change():
    (diff,) = blocks("diff")
    lines = [line for line in diff.splitlines() if line]
    assert sum(line.startswith("+") for line in lines) == sum(line.startswith("-") for line in lines) == 4
    program = blocks("python")[0]
    for line in lines:
        if not line.startswith("-"):
            assert f"\n{line[1:]}\n" in program


@pytest.mark.parametrize("name", ["joint", "cagrad"])
@pytest.mark.parametrize("first", ["bind", "prepare"])
@pytest.mark.filterwarnings("ignore")
def test_accelerate_in_bf16(first, name):
    """Its prepared net returns copies of the features, and no row may be cut off at a copy."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(mixed_precision="bf16", cpu=True)
    (images, labels), nets = next(batches()), (tiny_net().float(), tiny_net().float())
    images = images.float()
    bound = method(name).bind(nets[0])
    with torch.autocast("cpu", torch.bfloat16):
        losses = bound.losses(images, labels)
    bound.backward(losses)
    if first == "bind":
        bound = method(name).bind(nets[1])
        accelerator.prepare(nets[1])
    else:
        bound = method(name).bind(accelerator.prepare(nets[1]))
    bound.backward(images, labels, run=accelerator.backward)
    assert_same(grads_of(nets[1]), grads_of(nets[0]))
