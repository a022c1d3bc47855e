"""A net starts from weights that it is given, matched by name and shape; what does not fit is told."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import tiny_net
from torch import nn

import offramp
from offramp import UserError, attach, load_pretrained
from offramp.nets import Net, multi_task
from offramp.tasks import Boxes, Classification


class Backbone(nn.Module):
    """A tiny network of the shape of torchvision's: a stem, layers, a pooling and ``fc``."""

    def __init__(self, classes=5, seed=0):
        torch.manual_seed(seed)
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.fc = nn.Linear(6, classes)
        for norm in (self.stem[1], self.layer2[1]):
            nn.init.uniform_(norm.running_mean)

    def features(self, x):
        return self.layer2(self.layer1(self.stem(x))).mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


class Untraceable(Backbone):
    """The same, whose forward torch.fx cannot follow."""

    def forward(self, x):
        if float(x.sum()) > 1e9:
            return self.fc(self.features(x))
        return self.fc(self.features(x))


def cut(classes=5, seed=1, kind=Backbone, **how):
    how = how or {"at": ["layer1"]}
    return attach(kind(classes, seed), input_size=(3, 8, 8), **how)


def save(path, content, **how):
    torch.save(content, path, **how)
    return path


def values(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


IMAGE = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "how",
    [
        {"at": ["layer1"]},
        {"at": ["layer1"], "kind": Untraceable},
        {"stages": [["stem", "layer1"], ["layer2", lambda x: x.mean((2, 3)), "fc"]]},
    ],
    ids=["graph", "replay", "stages"],
)
def test_the_file_of_a_backbone_fits_the_net_that_was_cut_of_it(tmp_path, capsys, how):
    source = Backbone(seed=7)
    net = cut(**how)
    before = values(net)
    found = load_pretrained(net, save(tmp_path / "resnet.pth", source.state_dict()))
    assert torch.equal(net.eval()(IMAGE)[-1], source.eval()(IMAGE))
    assert found.as_initialised == ("heads.0",)
    assert found.unused == ()
    for name in net.heads[0].state_dict():
        assert torch.equal(net.state_dict()[f"heads.0.{name}"], before[f"heads.0.{name}"])
    line = f"as initialised, since {tmp_path / 'resnet.pth'} has none that fit: heads.0\n"
    assert capsys.readouterr().err == line


def test_all_weights_of_the_same_net_are_taken_and_nothing_is_said(tmp_path, capsys):
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    found = load_pretrained(net, tmp_path / "w.safetensors")
    assert_equal(net.state_dict(), source.state_dict())
    assert found.digest == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert found.source == str(tmp_path / "w.safetensors")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "packed",
    [
        lambda state: state,
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"model.{n}": v for n, v in state.items()}, "epoch": 3, "best": 0.5},
        lambda state: {"model": state, "model_ema": {n: v + 1 for n, v in state.items()}, "epoch": 3},
        lambda state: OrderedDict(state) | {"n_averaged": torch.tensor(3)},
        lambda state: {name: nn.Parameter(v) if v.is_floating_point() else v for name, v in state.items()},
        lambda state: {n: v.double() if v.is_floating_point() else v.int() for n, v in state.items()},
        lambda state: {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")},
    ],
    ids=["plain", "module", "compiled", "lightning", "torchvision", "swa", "parameters", "cast", "old"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_found_however_it_was_packed(tmp_path, packed, zipped):
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    path = save(tmp_path / "w.pt", packed(source.state_dict()), _use_new_zipfile_serialization=zipped)
    found = load_pretrained(net, path)
    assert_equal(net.state_dict(), source.state_dict())
    assert found.as_initialised == ()


def test_half_precision_is_cast_to_that_of_the_net(tmp_path):
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    load_pretrained(net, save(tmp_path / "w.pt", source.half().state_dict()))
    assert_equal(net.state_dict(), source.float().state_dict())
    assert net.heads[0][3].weight.dtype == torch.float32


def test_a_head_of_another_number_of_classes_stays_as_it_was(tmp_path, capsys):
    net = cut(classes=5)
    before = values(net)
    found = load_pretrained(net, save(tmp_path / "w.pt", Backbone(classes=9, seed=7).state_dict()))
    assert found.as_initialised == ("heads.0", "heads.1")
    assert found.unused == ()
    for name, value in net.state_dict().items():
        if "heads" in name:
            assert torch.equal(value, before[name]), name
    assert torch.equal(net.stages[0].stem[0].weight, Backbone(seed=7).stem[0].weight)
    assert "heads.0, heads.1" in capsys.readouterr().err


def test_the_last_layer_in_the_last_stage_counts_as_a_head(tmp_path):
    class Tail(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.layer, self.fc = net.layer2, net.fc

        def forward(self, x):
            return self.fc(self.layer(x).mean((2, 3)))

    backbone = Backbone(5, 1)
    net = attach(backbone, stages=[["stem", "layer1"], Tail(backbone)], input_size=(3, 8, 8))
    found = load_pretrained(net, save(tmp_path / "w.pt", Backbone(classes=9, seed=7).state_dict()))
    assert set(found.as_initialised) == {"heads.0", "stages.1.fc"}
    assert torch.equal(backbone.layer2[0].weight, Backbone(seed=7).layer2[0].weight)


def test_the_weights_of_a_trunk_fit_a_net_of_several_tasks(tmp_path):
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    source = nn.Sequential(nn.Conv2d(3, 4, 3))
    decoders = {"class": (nn.Linear(4, 3), Classification(target="class")), "box": (nn.Linear(4, 4), Boxes())}
    net = multi_task(trunk, decoders, input_size=(3, 8, 8))
    found = load_pretrained(net, save(tmp_path / "w.pt", source.state_dict()))
    assert torch.equal(trunk[0].weight, source[0].weight)
    assert found.as_initialised == ("decoders.0", "decoders.1")


def test_a_trunk_with_heads_for_tasks_takes_the_weights_of_the_net_with_exits(tmp_path):
    source = offramp.nets.vgg7(num_classes=10, width=4)
    targets = {
        "class": offramp.data.Target("class", ("a", "b", "c")),
        "box": offramp.data.Target("box", size=4),
    }
    net = offramp.nets.with_tasks(offramp.nets.vgg7(num_classes=10, width=4), targets)
    found = load_pretrained(net, save(tmp_path / "w.pt", source.state_dict()))
    assert found.as_initialised == ("decoders.0", "decoders.1")
    assert torch.equal(next(net.stages.parameters()), next(source.stages.parameters()))


class Own(Net):
    """A net of a user's own: an encoder, and a branch for each of two outputs."""

    input_size = (3, 4, 4)

    def __init__(self, classes):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3)
        self.branches = nn.ModuleList(nn.Linear(4, classes) for _ in range(2))
        self.outputs = {"a": Classification(target="a"), "b": Classification(target="b")}

    def forward(self, x):
        feature = self.encoder(x).mean((2, 3))
        return [branch(feature) for branch in self.branches]


def test_heads_of_a_net_of_your_own_are_what_one_output_alone_reads(tmp_path):
    source, net = Own(3), Own(5)
    found = load_pretrained(net, save(tmp_path / "w.pt", source.state_dict()))
    assert found.as_initialised == ("branches.0", "branches.1")
    assert torch.equal(net.encoder.weight, source.encoder.weight)


class Apart(Net):
    """A net of a user's own whose outputs share nothing, so that all of it is heads."""

    input_size = (4,)
    outputs = {"a": Classification(target="a"), "b": Classification(target="b")}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.towers = nn.ModuleList(nn.Linear(4, 3) for _ in range(2))

    def forward(self, x):
        return [tower(x) for tower in self.towers]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"conv.weight": torch.ones(2)}, "4 of the net's 4 weights are missing: towers.0.weight, "),
        ({f"towers.{k}.weight": torch.ones(5, 4) for k in range(2)}, "2 of the net's 4 weights have another"),
    ],
)
def test_a_file_of_which_nothing_fits_is_refused_though_all_of_the_net_is_heads(tmp_path, state, says):
    with pytest.raises(UserError, match="is of another network") as refused:
        load_pretrained(Apart(), save(tmp_path / "w.pt", state))
    assert says in str(refused.value)
    found = load_pretrained(net := Apart(), save(tmp_path / "w.pt", {**state, **one_tower()}))
    assert found.as_initialised == ("towers.0",)
    assert torch.equal(net.towers[1].weight, torch.ones(3, 4))


def one_tower():
    return {"towers.1.weight": torch.ones(3, 4), "towers.1.bias": torch.ones(3)}


def test_what_the_net_does_not_have_is_named(tmp_path, capsys):
    state = tiny_net(seed=1).state_dict()
    found = load_pretrained(tiny_net(), save(tmp_path / "w.pt", state | {"aux.weight": torch.ones(2)}))
    assert found.unused == ("aux.weight",)
    assert capsys.readouterr().err == f"in {tmp_path / 'w.pt'} and not in the net: aux.weight\n"


@dataclass
class Settings:
    """What training programs leave in their checkpoints, and weights-only loading refuses."""

    lr: float = 0.1


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


WRONG = {
    "missing": (
        lambda s: without(s, "stages.1.0"),
        "2 of the net's 18 weights are missing: stages.1.0.weight, stages.1.0.bias",
    ),
    "shape": (
        lambda s: s | {"stages.1.0.bias": torch.ones(9)},
        "1 of the net's 18 weights have another shape or kind: stages.1.0.bias ([9], not [4])",
    ),
    "kind": (lambda s: s | {"stages.1.0.bias": torch.arange(4)}, "torch.int64, not torch.float32"),
    "other": (lambda s: {"conv1.bias": torch.ones(3)}, "another network, whose weights are conv1.bias: "),
    "nan": (lambda s: s | {"stages.0.0.bias": torch.full((4,), torch.nan)}, "stages.0.0.bias is not finite"),
    "overflow": (lambda s: s | {"stages.0.0.bias": torch.ones(4).double() * 1e300}, "is not finite"),
    "variance": (lambda s: s | {"stages.0.1.running_var": -torch.ones(4)}, "running_var is below 0"),
    "no names": (lambda s: [*s.values()], "holds a list and no weights by name"),
    "no weights": (lambda s: {"epoch": 3, "lr": 0.1}, "holds ['epoch', 'lr'] and no weights by name"),
    "numbers for names": (lambda s: dict(enumerate(s.values())), "and no weights by name"),
    "empty": (lambda s: {}, "holds [] and no weights by name"),
    "no values": (
        lambda s: s | {"stages.1.0.bias": torch.ones(4, device="meta")},
        "holds stages.1.0.bias without its values, on device meta",
    ),
    "two": (lambda s: {"state_dict": s, "model": s}, "holds weights under state_dict and model"),
    "objects": (lambda s: {"model": s, "args": Settings()}, "holds more than weights and could run code"),
    "a net": (lambda s: tiny_net(), "holds more than weights and could run code"),
    "twins": (
        lambda s: {f"{who}.{name}": value for name, value in s.items() for who in ("student", "teacher")},
        "under several prefixes, student. and teacher.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("packed", "says"), WRONG.values(), ids=WRONG)
def test_weights_that_do_not_fit_are_refused_in_a_line_and_change_nothing(tmp_path, packed, says):
    net = tiny_net(seed=2)
    before = values(net)
    path = save(tmp_path / "w.pt", packed(tiny_net(seed=1).state_dict()))
    with pytest.raises(UserError) as refused:
        load_pretrained(net, path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert_equal(net.state_dict(), before)


STRANGE = {
    "empty": (b"", "empty"),
    "text": (b"epoch,loss\n1,2.5\n", "text, and no file of weights"),
    "json": (b'[\n      {"loss": 2.5}]', "text, and no file of weights"),
    "yaml": ("größe: 3\n".encode(), "text, and no file of weights"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image, and no file of weights"),
    "parquet": (b"PAR1\x15\x04", "a Parquet file, and no file of weights"),
    "zeros": (bytes(200), "damaged, or of another kind, and no file of weights"),
    "noise": (bytes(range(255, 100, -1)), "damaged, or of another kind, and no file of weights"),
    "zip": (None, "an archive, and no file of weights"),
}


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(("content", "says"), STRANGE.values(), ids=STRANGE)
def test_a_file_of_something_else_is_called_what_it_is(tmp_path, name, content, says):
    path = tmp_path / name
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "hello")
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_pretrained(tiny_net(), path)
    expected = "give a finished run, a safetensors file, or one that torch.save wrote, as init"
    assert str(refused.value) == f"{path} is {says}; {expected}"


def test_whatever_letter_comes_first_text_is_called_text(tmp_path):
    net = tiny_net()
    for first in range(0x20, 0x7F):  # each of which is a command to a reader of pickles
        (tmp_path / "w.pt").write_bytes(bytes([first]) + b"poch 1 of 20\n")
        with pytest.raises(UserError, match=r"w\.pt is text, and no file of weights; give a finished run"):
            load_pretrained(net, tmp_path / "w.pt")


def test_the_beginning_of_an_archive_is_one_line(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK\x03\x04 nor a zip file")
    with pytest.raises(UserError, match="no file of"):
        load_pretrained(tiny_net(), tmp_path / "w.pt")


def test_a_file_without_weights_is_one_line(tmp_path):
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w.safetensors holds no weights; save the weights alone"):
        load_pretrained(tiny_net(), tmp_path / "w.safetensors")


def test_a_damaged_file_is_one_line(tmp_path):
    data = save(tmp_path / "w.pt", tiny_net().state_dict()).read_bytes()
    place = data.index(tiny_net().state_dict()["stages.0.0.weight"].numpy().tobytes())
    for broken in (data[: len(data) // 2], data[:place] + b"\xff" + data[place + 1 :]):
        (tmp_path / "w.pt").write_bytes(broken)
        with pytest.raises(UserError, match="is cut short, damaged or no file of weights"):
            load_pretrained(tiny_net(), tmp_path / "w.pt")


def test_what_is_no_file_and_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*nothing; give a finished run, or a file"):
        load_pretrained(tiny_net(), tmp_path / "nothing")
    save_file(tiny_net().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"is a folder and no run; give a file .*model.safetensors"):
        load_pretrained(tiny_net(), tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: it is a pipe, not a file; give a finished run"):
        load_pretrained(tiny_net(), tmp_path / "pipe")
    for nothing in (3, "", None):
        with pytest.raises(UserError, match=r"init is .*, must be the path of a finished run"):
            load_pretrained(tiny_net(), nothing)
    with pytest.raises(UserError, match="without exits, not a MultiExitNet"):
        load_pretrained(nn.Linear(2, 2), tmp_path / "model.safetensors")
