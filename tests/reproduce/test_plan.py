"""Plans: sizes at a scale, data that may and may not be called published, and the sweep as a file."""

from dataclasses import replace
from fractions import Fraction
from importlib import import_module

import pytest
from tiny_dense import dense_data
from tiny_runs import tiny_data

from offramp import Recipe, UserError
from offramp.counting import cost
from offramp.nets.text import build
from offramp.reproduce import EXPERIMENTS, SETS, PublishedSet, estimate, plan
from offramp.sweeps import read_sweep


def small(name="dfs-table4", **changes):
    return plan(name, **{"stand_in": "CIFAR-100=digits", "scale": "1/300", **changes})


def test_width_images_and_epochs_shrink_alike():
    planned = plan("dfs-table2", stand_in="CIFAR-100=digits", scale="1/50", only=["joint"])
    recipe = planned.sweep.entries[0].recipe
    assert planned.sweep.entries[0].net == "msdnet_cifar:growth=1,channels=1"
    assert (recipe.epochs, recipe.milestones, recipe.train_limit) == (6, (5,), 1000)
    assert (recipe.batch_size, recipe.lr) == (500, 0.1)  # these stay
    assert "network msdnet_cifar:growth=1,channels=1, published: msdnet_cifar" in planned.differs
    assert "training images 1000, published: 50000" in planned.differs
    assert "epochs 6, published: 300" in planned.differs
    net = "msdnet_cifar:growth=1,channels=1"
    assert planned.title.endswith(f"{net} on digits, which stands in for CIFAR-100, at scale 1/50")


def test_the_width_is_the_nearest_at_which_every_row_can_be_trained():
    def splits(width):
        betas = (0.1, 0.3, 0.5, 0.7, 0.9)
        return all(0 < round(beta * c) < c for beta in betas for c in (width, 2 * width, 4 * width))

    nearest = next(width for width in range(4, 65) if splits(width))
    assert nearest > 4
    for only in ((), ("dfs beta=0.5",)):  # also where the rows that need it are not asked for
        assert plan("dfs-table4", stand_in="CIFAR-100=digits", scale="1/16", only=only).sweep.net == (
            f"vgg7:width={nearest}"
        )


def test_at_full_scale_the_published_recipe_is_left_alone():
    planned = plan("dr-mgf-table1-cifar10", stand_in="CIFAR-10=digits")
    for entry in planned.sweep.entries:
        assert entry.net == "vgg_sdn"
        assert entry.recipe.replace(options={}) == Recipe.load("sdn_vgg")
    assert planned.sweep.seeds == (0,)
    assert plan("dr-mgf-table6", stand_in="NYUv2=rooms:images=4,test=2").sweep.seeds == (0, 1, 2)
    assert small(seeds=[3, 5]).sweep.seeds == (3, 5)


def test_a_batch_is_no_larger_than_the_set():
    planned = small()
    recipe = planned.sweep.entries[0].recipe
    assert recipe.batch_size == recipe.train_limit == len(planned.data.train) == 167
    assert "batch_size 167, published: 500" in planned.differs


def test_rows_are_found_by_their_labels_and_by_their_methods():
    assert [row.label for row in small(only=["dfs"]).rows] == [
        r.label for r in EXPERIMENTS["dfs-table4"].rows
    ]
    assert [row.label for row in small(only=["dfs beta=0.3"]).rows] == ["dfs beta=0.3"]
    assert [r.label for r in small("dfs-table2", only=["cagrad-meta-gf", "ge"]).rows] == ["ge", "cagrad"]


def test_the_text_is_a_file_of_the_very_sweep(tmp_path):
    for planned in (
        small("dfs-table2"),
        plan("dr-mgf-table6", stand_in="NYUv2=rooms:images=4,test=2", scale="1/64"),
        plan("dr-mgf-table3-cifar10", stand_in="CIFAR-10=digits", scale=0.5),
    ):
        (tmp_path / "sweep.yaml").write_text(planned.text)
        assert read_sweep(tmp_path / "sweep.yaml") == planned.sweep


def test_table_6_has_three_networks():
    planned = plan("dr-mgf-table6", stand_in="NYUv2=rooms:images=4,test=2", scale="1/64")
    nets = {row.label: entry.net for row, entry in zip(planned.rows, planned.sweep.entries, strict=True)}
    assert {nets.pop(row) for row in ("Independent", "Rotograd")} == {"segnet_split:width=1"}
    assert nets.pop("Cross-Stitch") == "segnet_cross_stitch:width=1"
    assert set(nets.values()) == {"segnet_mtan:width=1"}


# which data are the published ones

NOISE = PublishedSet("NOISE", train=50, test=21, classes=3, names=("bright", "gray"))


def test_a_set_is_told_from_others_by_classes_and_images():
    data = tiny_data()
    assert NOISE.unlike(data) == NOISE.other_targets(data) == ""
    for change, says in (
        ({"classes": 100}, "noise has 3 classes, and NOISE has 100"),
        ({"names": ("apple", "worm")}, "run from bright to gray, and those of NOISE from apple to worm"),
        ({"train": 49}, "noise has 50 training images, and NOISE has 49"),
        ({"test": 42}, "noise has 21 test images, and NOISE has 42"),
    ):
        assert says in replace(NOISE, **change).unlike(data)
    dense = dense_data()
    assert "maps has segmentation, depth, normals to predict, and NOISE class" in NOISE.other_targets(dense)
    assert SETS["NYUv2"].other_targets(dense) == ""


@pytest.fixture
def colours(tmp_path):
    """An image folder of two colours, three images each for training and one for test."""
    pil = pytest.importorskip("PIL.Image")
    for colour in ("blue", "red"):
        for split, count in (("train", 3), ("test", 1)):
            (folder := tmp_path / "colours" / split / colour).mkdir(parents=True)
            for number in range(count):
                pil.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
    return tmp_path / "colours"


def test_only_the_published_set_is_called_by_its_name(colours, monkeypatch):
    source = str(colours)
    with pytest.raises(UserError, match=r"colours has 2 classes.*give `stand_in='CIFAR-100=.*colours'`"):
        plan("dfs-table4", source)
    monkeypatch.setitem(SETS, "CIFAR-100", PublishedSet("CIFAR-100", 6, 2, 2, ("blue", "red"), side=32))
    planned = plan("dfs-table4", source)
    assert planned.title.endswith(": vgg7 on CIFAR-100")
    stand_in = plan("dfs-table4", stand_in=f"CIFAR-100={source}")
    assert stand_in.title.endswith(": vgg7 on colours, which stands in for CIFAR-100")


def test_images_of_another_size_are_cut_to_the_published_one(colours):
    pil = pytest.importorskip("PIL.Image")
    pil.new("RGB", (40, 48), "red").save(colours / "train" / "red" / "large.png")
    planned = plan("dfs-table4", stand_in=f"CIFAR-100={colours}")
    assert planned.sweep.entries[0].recipe.size == 32
    assert planned.data.input_size == (3, 32, 32)
    assert "images are cut to 32 pixels a side" in planned.differs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"stand_in": None}, "by `data=...`, or other data by `stand_in='CIFAR-100=path/to/other'`"),
        ({"data": "digits"}, "and not both"),
        ({"data": "digits", "stand_in": None}, "digits is a set of this library; to take it in its place"),
        ({"stand_in": "CIFAR-100"}, "must name the published set, CIFAR-100, and the data in its place"),
        ({"stand_in": 3}, "stand_in is 3, must be a text such as 'CIFAR-100=path/to/other'"),
        ({"stand_in": "CIFAR-100=rooms:images=2,test=2"}, "has segmentation, depth, normals to predict"),
        ({"stand_in": "CIFAR-100=nowhere"}, "nowhere"),
        ({"scale": 2}, "scale is 2, must be a fraction above 0 and up to 1"),
        ({"scale": True}, "scale is True"),
        ({"scale": "1e999999999"}, "must be a fraction"),
        ({"scale": "١/١٦"}, "must be a fraction"),
        ({"scale": float("nan")}, "must be a fraction"),
        ({"only": "dfs"}, "only is 'dfs', must be a list of rows"),
        ({"only": ["joint"]}, "dfs-table4 has no row 'joint'; there are: dfs beta=0.1, "),
        ({"seeds": 3}, "seeds is 3, must be a list of whole numbers"),
        ({"seeds": [0, 0]}, "must be a list of different whole numbers"),
        ({"out": ""}, "out is '', must be the path of the folder of the runs"),
        ({"out": 3}, "out is 3, must be the path of"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(arguments, says):
    with pytest.raises(UserError) as error:
        small(**arguments)
    assert says in str(error.value)


def test_the_estimate_is_passes_times_images_times_operations():
    planned = plan(
        "dr-mgf-table1-cifar10", stand_in="CIFAR-10=digits", scale="1/64", only=["sdn-ramp", "dr-mgf"],
        seeds=[0, 1],
    )  # fmt: skip
    found = estimate(planned, jobs=1)
    images = len(planned.data.train)
    once = 3 * cost(build(planned.sweep.net, num_classes=10)).flops * images * 2 * 2  # 2 epochs, 2 seeds
    joint, dr_mgf = found.rows
    assert (joint.joint_epochs, joint.flops) == (2, once)
    assert (dr_mgf.joint_epochs, dr_mgf.flops) == (16, 8 * once)  # K + 1 epochs of joint training for one
    assert found.flops == 9 * once
    assert 0 < joint.seconds < dr_mgf.seconds < 9 * joint.seconds
    assert found.hours == pytest.approx((joint.seconds + dr_mgf.seconds) / 3600)
    assert planned.scale == Fraction(1, 64)
    assert found.to_dict()["rows"][0]["label"] == "sdn-ramp"


def test_the_tests_of_the_last_epochs_are_a_part_of_the_hours(monkeypatch):
    monkeypatch.setattr(import_module("offramp.reproduce.estimate"), "_seconds_of_an_image", lambda *_: 1.0)
    for test in (2, 10):
        source = f"NYUv2=rooms:images=10,test={test},height=32,width=32"
        planned = plan("dr-mgf-table6", stand_in=source, scale="1/40", only=["MTAN"])
        [row] = estimate(planned).rows
        # three seeds: five epochs of ten images, and six forward passes over the test images
        assert row.seconds == pytest.approx(3 * (5 * 10 + 6 * test / 3))
