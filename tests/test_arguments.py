"""Wrong values of every argument of what is public: one line, which names the argument; nothing is changed.

`CASES` are the callables with good values for their arguments; in turn each is replaced by what is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from torch import nn

import offramp
from offramp import (
    Recipe,
    Router,
    Run,
    UserError,
    analysis,
    counting,
    data,
    exits,
    forks,
    methods,
    nets,
    reports,
    sweeps,
    tasks,
)
from offramp.data import Batch, Split, Target

IMAGES, LABELS = torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
RECIPE = Recipe(epochs=1, batch_size=8, augment="none")


class Hostile:
    """An object that cannot even be printed."""

    def __repr__(self):
        raise ValueError("no")


class Case(NamedTuple):
    """A callable, and good arguments for it."""

    call: Callable[..., Any]
    good: dict[str, Callable[[], Any]]


def values(**given):
    """Arguments whose values may be shared."""
    return {name: (lambda value=value: value) for name, value in given.items()}


WRONG = {
    "an object": object(),
    "a class": nn.Linear,
    "a function": lambda: 0,
    "a module": nn.Linear(2, 2),
    "a Tensor": IMAGES,
    "a scalar of numpy": np.float32(2),
    "what cannot be printed": Hostile(),
    "bytes": b"x",
    "a list of None": [None],
    "a mapping": {"a": 1},
    "not a number": float("nan"),
    "no character of a path": "\0",
    "nothing": None,
    "a number": 5,
    "an empty list": [],
    "an empty text": "",
}
EVERYTHING = ("an object", "a class", "a module", "a Tensor", "bytes", "what cannot be printed")
# What arguments may be all the same.
FINE = {
    ("remove", "net", "a module"),
    *((call, "inputs", "a Tensor") for call in ("owners", "losses", "backward")),
    ("Batch", "inputs", "a module"), ("Batch", "inputs", "an object"), ("Batch", "inputs", "a class"),
    ("Batch", "inputs", "a Tensor"), ("Batch", "inputs", "bytes"),
    ("Batch", "inputs", "what cannot be printed"), ("MultiExitNet", "example", "a Tensor"),
    ("attach", "example", "a Tensor"), ("multi_task", "example", "a Tensor"),
    ("ImageData", "load_test", "a class"), ("ImageData", "load_test", "a module"),
    ("Router()", "x", "a Tensor"), ("Split", "images", "a Tensor"), ("calibrate", "transform", "a class"),
    ("calibrate", "transform", "a module"), ("Policy", "thresholds", "bytes"),
    ("Recipe", "milestones", "bytes"), ("Classification", "class_weights", "bytes"),
    ("Partition", "where", "bytes"), }  # fmt: skip


LEFT_OUT = {
    ("fit", "recipe", "nothing"),  # trains 30 epochs
    ("owners", "net", "a module"),  # a net, but not one for these inputs
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arguments") / "run"
    return offramp.fit(tiny_net(), tiny_data(), "joint", RECIPE, folder, quiet=True)


@pytest.fixture(scope="module")
def cases(run) -> dict[str, Case]:
    bound = offramp.method("dfs").bind(tiny_net())
    folder, full = str(run.folder), exits.Policy.full(2)
    split = Split(IMAGES.byte(), {"label": LABELS})
    target = Target("class", ("a", "b", "c"))
    dense = [nn.Conv2d(4, 3, 1), nn.Conv2d(4, 1, 1)]
    outputs = {"a": tasks.Segmentation(), "b": tasks.Depth()}
    stages, heads = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)], [nn.Flatten(), nn.Flatten()]
    recorded = exits.ExitLogits.of(run.net, [(IMAGES, LABELS)])
    comparison = offramp.compare([folder])
    zoo = ("vgg7", "resnet18", "resnet_sdn", "vgg_sdn", "wideresnet_sdn", "segnet_mtan", "segnet",
           "segnet_split", "segnet_cross_stitch")  # fmt: skip
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    own = {"net": tiny_net}
    return {
        "fit": Case(offramp.fit, own | {"data": tiny_data} | values(
            method="joint", recipe=RECIPE, out=None, resume=False, quiet=True, device="cpu", init=None)),
        "load_pretrained": Case(offramp.load_pretrained, own | values(init=folder)),
        "export": Case(offramp.export, own | values(
            policy=exits.Policy.full(3), out="bundle", transform=None, classes=())),  # of another net
        "cost": Case(offramp.cost, own | values(input_size=None, convention=None)),
        "training_macs": Case(counting.training_macs, own),
        "paper_operations": Case(counting.paper_operations, values(exits=3)),
        "attach": Case(offramp.attach, values(
            backbone=backbone, at=["0"], num_classes=3, stages=None, input_size=(3, 8, 8), example=None,
            channel_axis=None, head="linear", pool=None, heads=None, freeze_backbone=False, task=None)),
        "multi_task": Case(offramp.multi_task, values(
            trunk=stages[0], decoders=dict(zip("ab", zip(dense, outputs.values(), strict=True), strict=True)),
            input_size=(3, 8, 8), example=None, channel_axis=None)),
        "MultiExitNet": Case(offramp.MultiExitNet, values(
            stages=stages, heads=heads, input_size=(3, 8, 8), example=None, channel_axis=None,
            convention="macs", task=None)),
        "MultiTaskNet": Case(nets.MultiTaskNet, values(
            stages=stages[:1], decoders=dense, outputs=outputs, input_size=(3, 8, 8))),
        "Separate": Case(nets.Separate, own),
        "create": Case(nets.create, values(name="vgg7")),
        "last_linear": Case(nets.last_linear, own | values(exit=1)),
        "owners": Case(nets.owners, own | values(inputs=IMAGES)),
        "with_tasks": Case(nets.with_tasks, own | values(targets={"label": target})),
        **{name: Case(getattr(nets, name), values(num_classes=10, width=8)) for name in zoo},
        "msdnet": Case(nets.msdnet_cifar, values(num_classes=10, growth=4, channels=4, dropout=0.0)),
        "partition": Case(offramp.partition, own | values(options=None)),
        "remove": Case(offramp.remove, own),
        "Partition": Case(forks.Partition, values(
            beta=0.5, own_to_shared=0.0, later_to_own=0.0, rounding="round", where=None, scales="coarsest")),
        "Equilibrium": Case(forks.Equilibrium, values(scales="coarsest")),
        "method": Case(lambda name, options: offramp.method(name, options), values(name="dfs", options={})),
        "Method": Case(methods.Method, values(name="own", summary="", paper="", parts={}, separate=False)),
        "bind": Case(offramp.method("dfs").bind, own | values(seed=0)),
        "losses": Case(bound.losses, values(inputs=IMAGES, targets=LABELS)),
        "backward": Case(bound.backward, values(inputs=IMAGES, targets=LABELS)),
        "open_data": Case(offramp.open_data, values(
            source=[(IMAGES[0], 0), (IMAGES[1], 1)] * 4, val_fraction=0.0, seed=0, train_limit=None,
            test_limit=None, size=None, val_split=True, channels=None, image=None, label=None, tasks=None,
            classes=None, ignore_label=None, max_tokens=None, text=None)),
        "ImageData": Case(data.ImageData, values(
            name="x", source="x", targets={"label": target}, train=split, val=split,
            load_test=lambda: split)),
        "Split": Case(Split, values(images=IMAGES.byte(), targets={"label": LABELS})),
        "Target": Case(Target, values(kind="class", classes=("a", "b"), size=1)),
        "Streams": Case(data.Streams, values(order="together", epoch_of="longest", proportions={})),
        "JointData": Case(data.JointData, values(sets={"a": tiny_data()}, streams=None)),
        "JointBatch": Case(data.JointBatch, values(parts={"a": Batch(IMAGES, {"label": LABELS})})),
        "Batch": Case(Batch, values(inputs=IMAGES, targets={"label": LABELS})),
        "Transform": Case(data.Transform, values(mean=(0.5,) * 3, std=(0.5,) * 3, steps=())),
        "default_pipeline": Case(data.default_pipeline, values(data=tiny_data())),
        "pipeline": Case(data.pipeline, values(name="none", data=tiny_data(), mixup=0.0, cutmix=0.0)),
        "calibrate": Case(offramp.calibrate, values(
            net=run.net, data=[(IMAGES, LABELS)], budget="100%", confidence="max-softmax", temperatures=None,
            per_class=False, rule="best", transform=None, convention=None)),
        "Router": Case(Router, values(net=run.net, policy=full, compile=False)),
        "Router()": Case(Router(run.net, full), values(x=IMAGES)),
        "StreamingRouter": Case(exits.StreamingRouter, values(
            net=run.net, policy=full, max_batch=4, max_wait=0.01, capacity=8)),
        "Policy": Case(exits.Policy, values(
            thresholds=(0.5,), confidence="max-softmax", temperatures=(), ensemble=None, net=None)),
        "Policy.open": Case(exits.Policy.open, values(path=folder)),
        "Policy.full": Case(exits.Policy.full, values(num_exits=2)),
        "ExitLogits": Case(exits.ExitLogits, values(logits=recorded.logits, labels=LABELS)),
        "ExitLogits.of": Case(exits.ExitLogits.of, values(net=run.net, batches=[(IMAGES, LABELS)])),
        "PathCosts": Case(exits.PathCosts, values(net=run.net, convention=None)),
        "decide": Case(exits.decide, values(recorded=recorded, policy=full, costs=None)),
        "Run.open": Case(Run.open, own | values(folder=folder, method=None, averaged=False, data=None)),
        "Run.evaluate": Case(run.evaluate, values(data=None)),
        "Run.batches": Case(lambda split: next(iter(run.batches(split))), values(split="val")),
        "delta_m": Case(lambda baseline: run.result.delta_m(baseline), values(baseline=run.result)),
        "read_sweep": Case(sweeps.read_sweep, values(path=folder, data=None, out=None)),
        "sweep": Case(sweeps.sweep, values(plan=None, jobs=1)),
        "read_run": Case(reports.read_run, values(folder=folder)),
        "compare": Case(offramp.compare, values(
            folders=[folder], pick_lr=False, published=None, baseline=(), metrics="primary")),
        "write_report": Case(reports.write_report, values(comparison=comparison, folder=folder)),
        "plot": Case(reports.plot, values(comparison=comparison, path=f"{folder}/x.png")),
        "diagnose": Case(analysis.diagnose, own | values(
            runs=[folder], settings=analysis.Settings(what=("convergence",)))),
        "Settings": Case(analysis.Settings, values(
            what=("conflict",), batches=3, step=None, unit="kernel", ratio=1.0, split="val")),
        "Recipe": Case(Recipe, values(**vars(Recipe()))),
        "Recipe.load": Case(Recipe.load, values(source="paper")),
        "Recipe.from_dict": Case(Recipe.from_dict, values(values={})),
        "with_settings": Case(Recipe().with_settings, values(settings=["lr=0.1"])),
        "Classification": Case(tasks.Classification, values(
            target="label", label_smoothing=0.0, class_weights=None)),
        "Segmentation": Case(tasks.Segmentation, values(target="x")),
        "Depth": Case(tasks.Depth, values(target="x", together=2)),
        "Normals": Case(tasks.Normals, values(target="x", together=2)),
        "Boxes": Case(tasks.Boxes, values(target="x", beta=0.1)),
        "MultiLabel": Case(tasks.MultiLabel, values(target="x")),
        "Regression": Case(tasks.Regression, values(target="x", penalty="mse", beta=1.0)),
    }  # fmt: skip


def test_wrong_values_are_one_line(cases, tmp_path, monkeypatch, capsys):
    """Whatever is given is taken or refused by a UserError of one line, never by an error from within."""
    monkeypatch.chdir(tmp_path)
    taken, faults = [], []
    for name, (call, good) in cases.items():
        for argument in good:
            for word, wrong in WRONG.items():
                if (name, argument, word) in LEFT_OUT:
                    continue
                given = {key: wrong if key == argument else make() for key, make in good.items()}
                try:
                    call(**given)
                except UserError as error:
                    if "\n" in str(error) or len(str(error)) > 900:
                        faults.append(f"{name}({argument}={word}): {str(error)[:80]!r} ...")
                except Exception as error:
                    faults.append(f"{name}({argument}={word}): {type(error).__name__}: {str(error)[:80]!r}")
                else:
                    taken.append((name, argument, word))
    assert faults == []
    assert {each for each in taken if each[2] in EVERYTHING} <= FINE
    assert not list(tmp_path.iterdir())


def test_every_public_callable_of_the_face_is_in_the_table(cases):
    face = {name for name in offramp.__all__ if callable(getattr(offramp, name))}
    assert face - {"UserError", "Run"} <= cases.keys()


@pytest.mark.parametrize(
    ("argument", "wrong", "line"),
    [
        ("recipe", {"epochs": 3}, r"^recipe is \{'epochs': 3\}, must be a Recipe, e\.g\. offramp\.Recipe\("),
        ("recipe", "paper.yaml", r"^recipe is 'paper\.yaml', must be a Recipe.* offramp\.Recipe\.load\("),
        ("method", ["dfs"], r"^method is \['dfs'\], must be a method's name, e\.g\. 'dfs'"),
        ("method", methods.Method, r"^method is the class Method, must be a method's name"),
        ("net", None, r"^net is a NoneType, not a MultiExitNet; make one of it, e\.g\. by offramp\.attach"),
        ("net", nn.Linear(2, 2), r"^net is a Linear without exits"),
        ("net", offramp.MultiExitNet, r"^net is the class MultiExitNet; give a net made by it"),
        ("out", 3, r"^out is 3, must be the path of a run folder"),
        ("out", "a\0b", r"^out is 'a.x00b', must be the path of a run folder"),
        ("device", 0, r"^device is 0, must be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("resume", 1, r"^resume is 1, must be true or false"),
    ],
)
def test_the_line_names_the_argument_and_what_to_give(argument, wrong, line):
    given = {"net": tiny_net(), "data": tiny_data(), "recipe": RECIPE, "quiet": True} | {argument: wrong}
    with pytest.raises(UserError, match=line):
        offramp.fit(**given)


def test_numbers_of_numpy_are_numbers():
    recipe = Recipe(epochs=np.int64(3), lr=np.float32(0.5), milestones=np.array([1, 2]), nesterov=np.True_)
    assert recipe == Recipe(epochs=3, lr=0.5, milestones=(1, 2), nesterov=True)
    for field in dataclasses.fields(recipe):
        assert type(getattr(recipe, field.name)).__module__ == "builtins"


def test_numbers_of_numpy_are_options_of_methods():
    options = {"c": np.float32(0.5), "every": np.int64(2), "weights": np.array([1, 2]), "shared": "union"}
    plain = {"c": 0.5, "every": 2, "weights": [1, 2], "shared": "union"}
    assert offramp.method("cagrad", **options) == offramp.method("cagrad", **plain)
    recipe = Recipe(options=options)
    assert recipe == Recipe(options=plain)
    assert type(recipe.options["c"]) is float


class TestNets:
    """Nets that cannot be trained, or only look odd."""

    def refused(self, net, line, recipe=RECIPE):
        before = {name: value.clone() for name, value in net.state_dict().items() if not value.is_meta}
        with pytest.raises(UserError, match=line):
            offramp.fit(net, tiny_data(), "joint", recipe, quiet=True)
        for name, value in before.items():
            torch.testing.assert_close(net.state_dict()[name], value, rtol=0, atol=0)

    def test_on_the_meta_device(self):
        self.refused(tiny_net().to("meta"), r"is on the meta device and has no values; .*to_empty")

    def test_in_part_on_the_meta_device(self):
        net = tiny_net()
        net.heads[1].to("meta")
        self.refused(net, r"^heads\.1\.3\.\w+ of MultiExitNet is on the meta device")

    def test_without_parameters(self):
        heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) for _ in range(2)]
        net = offramp.MultiExitNet([nn.ReLU(), nn.ReLU()], heads, input_size=(3, 8, 8))
        self.refused(net, r"^MultiExitNet has no parameters")

    @pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
    def test_in_another_precision(self, kind):
        name = str(kind).removeprefix("torch.")
        self.refused(tiny_net().to(kind), rf"parameters are {name} .*float32; call net\.float\(\)")

    def test_with_one_head_at_two_exits(self):
        net = tiny_net()
        net.heads[1] = net.heads[0]
        offramp.fit(net, tiny_data(), "pcgrad", RECIPE, quiet=True)

    def test_with_an_output_that_does_not_depend_on_the_input(self):
        class Bias(nn.Module):
            def __init__(self):
                super().__init__()
                self.logits = nn.Parameter(torch.zeros(3))

            def forward(self, x):
                return self.logits.expand(len(x), -1)

        net = tiny_net()
        net.heads[0] = Bias()
        offramp.fit(net, tiny_data(), "dfs+pcgrad", RECIPE, quiet=True)


@pytest.mark.parametrize(
    ("targets", "line"),
    [
        (LABELS.float(), r"^'label' is torch\.float32 \[4\] for outputs \[4, 3\]; give one class index"),
        (LABELS + 7, r"^a label is out of range"),
        (LABELS.tolist(), r"^targets are a Tensor or a mapping"),
        (LABELS.numpy(), r"^targets are a Tensor or a mapping"),
        (LABELS[:2], r"^'label' is torch\.int64 \[2\] for outputs"),
    ],
)
def test_labels_in_a_loop_of_ones_own(targets, line):
    bound = offramp.method("dfs").bind(tiny_net())
    with pytest.raises(UserError, match=line):
        bound.backward(IMAGES, targets)
    assert all(p.grad is None for p in bound.net.parameters())


@pytest.mark.parametrize(
    "example", [torch.tensor(3.0), torch.zeros(0, 3, 8, 8), (IMAGES, 1), {"x": torch.tensor(1)}]
)
def test_an_example_has_rows(example):
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(
        UserError, match=r"^example must be a Tensor with at least one input, \[N, \.\.\.\], or a"
    ):
        offramp.attach(backbone, at=["0"], example=example)


def test_run_folders_may_come_one_after_the_other(run):
    folders = (folder for folder in [run.folder])
    assert offramp.compare(folders).table() == offramp.compare([run.folder]).table()
