import copy
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from unchecked import unchecked

from offramp import Run, UserError, attach, fit
from offramp.analysis import Settings, diagnose
from offramp.analysis._subject import subject_of
from offramp.data import ImageData
from offramp.methods import METHODS, Method
from offramp.nets import vgg7
from offramp.recipes import Recipe
from offramp.reports import read_run

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, augment="none", train_limit=160, test_limit=20)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Runs on digits: joint twice, dfs and separate once."""
    folder = tmp_path_factory.mktemp("diagnosed")
    for name, method, seed in (
        ("joint0", "joint", 0),
        ("joint1", "joint", 1),
        ("dfs", "dfs", 0),
        ("sep", "separate", 0),
    ):
        torch.manual_seed(seed)
        net = vgg7(num_classes=10, width=4)
        fit(net, "digits", method, RECIPE.replace(seed=seed), folder / name, quiet=True)
    return folder


def test_all_but_routes(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageData, "test", property(lambda self: pytest.fail("the test set is not for this")))
    heard = []
    runs = [folders / name for name in ("joint0", "joint1", "dfs")]
    found = diagnose(runs, Settings(batches=3, step=0.01), tell=heard.append)
    document = found.write(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "diagnosis.json").read_text()) == json.loads(json.dumps(document))
    pictures = {
        "conflict",
        "filters",
        "importance",
        "importance-same-owners",
        "convergence",
    }
    assert set(document["pictures"]) == pictures
    for picture in document["pictures"].values():
        with open(picture, "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert [run["label"] for run in document["runs"]] == ["joint seed 0", "joint seed 1", "dfs"]
    for run in document["runs"]:
        assert len(run["conflict"]["exits"]) == 6
        for one in run["conflict"]["exits"]:
            assert len(one["gain"]) + one["left_out"] == 3
        for by in ("importance", "importance_same_owners"):
            assert len(run[by]["change"]) == len(run[by]["chance"]) == 6
            assert [len(stage["owners"]) for stage in run[by]["stages"]] == [6, 5, 4, 3, 2]
        assert run["routes"] is None
    assert [len(one["epochs"]) for one in document["convergence"]] == [2, 2]
    assert document["convergence"][0]["val_top1_mean"]["std"][0] is not None
    again = document["runs"][1]["folder"]
    assert any(f"{again}: conflict, filters, importance over 3" in line for line in heard)
    text = found.table()
    for words in (
        "Pearson's r",
        "conflict per shared filter",
        "convergence",
        "no learned routes",
        "dfs",
        "by chance",
    ):
        assert words in text


def test_dfs_trains_by_gradients_with_less_conflict(folders):
    joint, dfs = diagnose([folders / "joint0", folders / "dfs"], Settings(("filters",), batches=3)).runs
    assert joint.filters_as_trained is None
    assert set(dfs.filters_as_trained) == set(dfs.filters) == set(joint.filters)
    # vgg7 is one convolution a stage, so surgery leaves every filter to one side or the other
    plain, trained = (
        sum(v.sum().item() for v in of.values()) for of in (dfs.filters, dfs.filters_as_trained)
    )
    assert trained < 0.5 * plain
    assert set(joint.layers) == {f"stages.{k}.0.weight" for k in range(5)}


def opened(folder):
    return subject_of(Run.open(folder), read_run(folder), folder.name, folder.name, {})


def test_the_net_is_left_as_it_was(folders):
    subject = opened(folders / "dfs")
    before = {name: value.clone() for name, value in subject.net.state_dict().items()}
    kinds = [type(module) for module in subject.net.modules()]
    from offramp.analysis._measure import measure

    measure(subject, Settings(("conflict", "filters", "importance"), batches=2), lambda line: None)
    assert [type(module) for module in subject.net.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in subject.net.state_dict().items())


def test_batches_are_those_of_the_training(folders):
    subject = opened(folders / "joint0")
    split = subject.data.train
    each = split.num_batches(16, drop_last=True)
    found = list(subject.batches(each + 2))
    assert len(found) == each + 2
    assert {len(batch) for batch in found} == {16}
    assert not torch.equal(
        found[0].targets["label"], found[each].targets["label"]
    )  # the next epoch has another order
    assert torch.equal(found[1].inputs, list(subject.batches(2))[1].inputs)


def test_accuracy_is_that_of_the_result(folders):
    subject = opened(folders / "joint0")
    result = read_run(folders / "joint0").result
    assert subject.metrics("test") == [e["top1"] for e in result["exits"]]
    assert subject.last_lr == pytest.approx(read_run(folders / "joint0").epochs[-1]["lr"])


def leave_routes(folder, shapes):
    """What a run of DR-MGF leaves, by the layout of the file."""
    draw = torch.Generator().manual_seed(0)
    owners = {f"stages.{stage}.0.weight": list(range(stage, 6)) for stage in shapes}
    tensors = {}
    for (name, tasks), shape in zip(owners.items(), shapes.values(), strict=True):
        tensors[f"{name}/importance"] = torch.rand(len(tasks), *shape, generator=draw)
        tensors[f"{name}/scale"] = torch.ones(len(tasks), *shape)
    save_file(tensors, folder / "routes.safetensors", metadata={"owners": json.dumps(owners)})


@pytest.fixture
def routed(folders):
    """The joint run as if DR-MGF had left routes in it."""
    leave_routes(folders / "joint0", {0: (4, 3), 1: (4, 4), 2: (8, 4)})
    yield
    (folders / "joint0" / "routes.safetensors").unlink()


def test_routes(folders, routed, tmp_path):
    found = diagnose([folders / "joint0", folders / "joint1"], Settings(("routes",)))
    document = found.write(tmp_path)
    assert set(document["pictures"]) == {"routes-importance", "similarity", "routes"}
    routes = document["runs"][0]["routes"]
    assert sum(routes["importance"]["filters"]) == routes["importance"]["shared"] == 12 + 16 + 32
    assert routes["similarity"]["parameters"] == ["stages.0.0.weight"]  # what all six exits own
    assert routes["similarity_without_first"] is None
    assert document["runs"][1]["routes"] is None
    assert document["notes"] == [
        "no learned routes (routes.safetensors) in joint seed 1: nothing to show of them"
    ]
    assert "cosine of the exits' learned importance" in found.table()


def test_routes_that_no_parameter_has_for_all_exits(folders, routed, tmp_path):
    leave_routes(folders / "joint0", {1: (4, 4), 2: (8, 4)})
    found = diagnose([folders / "joint0"], Settings(("routes",)))
    document = found.write(tmp_path)
    assert set(document["pictures"]) == {"routes-importance", "routes"}
    assert document["runs"][0]["routes"]["similarity"] is None
    assert "cosine" not in found.table()


@pytest.mark.parametrize(
    ("shapes", "says"), [({0: (4, 4)}, "of another net"), ({9: (4, 3)}, "damaged or holds no routes")]
)
def test_routes_of_another_net(folders, routed, shapes, says):
    leave_routes(folders / "joint0", shapes)
    with pytest.raises(UserError, match=rf"routes\.safetensors is {says}"):
        diagnose([folders / "joint0"], Settings(("routes",)))


def test_nothing_to_draw(folders, tmp_path):
    found = diagnose([folders / "joint0"], Settings(("routes",)))
    assert found.write(tmp_path)["pictures"] == {}
    assert found.table().startswith("note: no learned routes")


def test_separate_nets_share_nothing_but_can_be_followed(folders):
    with pytest.raises(UserError, match="share no parameter"):
        diagnose([folders / "sep"], Settings(("filters",), batches=1))
    heard = []
    with pytest.raises(UserError, match=r"sep: the outputs .* share no parameter.*leave this run out"):
        diagnose([folders / "joint0", folders / "sep"], Settings(("filters",), batches=1), tell=heard.append)
    assert heard == []  # nothing was measured in vain
    assert diagnose([folders / "sep"], Settings(("convergence",))).curves[0].label == "separate"


def test_no_validation_images(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "joint0", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["recipe"]["val_fraction"] = 0
    (unchecked(tmp_path / "run") / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"held out no validation images .* give `split='test'`"):
        diagnose([tmp_path / "run"], Settings(("importance",), batches=1))
    assert diagnose([tmp_path / "run"], Settings(("importance",), batches=1, split="test")).runs[0].pruning


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        ({"what": ("konflict",)}, "no 'konflict' to diagnose .did you mean 'conflict'"),
        ({"what": ()}, "nothing to diagnose"),
        ({"batches": 0}, "batches is 0"),
        ({"step": -1.0}, "step is -1.0"),
        ({"step": float("nan")}, "step is nan"),
        ({"ratio": 0.5}, "ratio is 0.5"),
    ],
)
def test_settings_out_of_range(mistake, line):
    with pytest.raises(UserError, match=line):
        Settings(**mistake)


def test_metrics_that_are_gone(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "joint0", tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").unlink()
    with pytest.raises(UserError, match=r"metrics\.csv of joint is missing"):
        diagnose([tmp_path / "run"], Settings(("convergence",)))


def test_a_net_of_ones_own(tmp_path):
    """Its run and its folder tell the same; the net that is given with a folder is left alone."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip
    net = attach(backbone, at=["1"])
    recipe = Recipe(epochs=1, train_limit=200, test_limit=50)
    run = fit(net, "digits", "dfs", recipe, tmp_path / "run", quiet=True)
    settings = Settings(("filters", "importance"), batches=2)
    fresh = attach(copy.deepcopy(backbone).requires_grad_(True), at=["1"])
    with torch.no_grad():
        fresh.heads[0][-1].weight.fill_(7)
    by_run = diagnose([run], settings)
    by_folder = diagnose([run.folder], settings, net=fresh)
    assert by_run.to_dict() == by_folder.to_dict()
    assert (fresh.heads[0][-1].weight == 7).all()
    with pytest.raises(UserError, match=r"give it by `net=\.\.\.`"):
        diagnose([run.folder], settings)
    with pytest.raises(UserError, match="net is a Sequential without exits"):
        diagnose([run.folder], settings, net=backbone)
    with pytest.raises(UserError, match=r"train it with `out=\.\.\.`"):
        diagnose([fit(fresh, "digits", "joint", recipe, quiet=True)], settings)


def test_a_run_with_a_method_of_ones_own(tmp_path):
    own = Method("mine", "", "", parts=METHODS["dfs"].parts)
    torch.manual_seed(0)
    recipe = RECIPE.replace(epochs=1)
    fit(vgg7(num_classes=10, width=4), "digits", own, recipe, tmp_path / "run", quiet=True)
    settings = Settings(("filters",), batches=2, step=0.01)
    (found,) = diagnose([Run.open(tmp_path / "run", method=own)], settings).runs
    assert found.label.startswith("mine")
    assert found.filters_as_trained is not None  # through the forks of the method that is given
    with pytest.raises(UserError, match="a Method of your own"):
        diagnose([tmp_path / "run"], settings)
