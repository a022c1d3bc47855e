"""Recipes: in Python, as YAML, as settings; every wrong value is one line that names it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from offramp import Recipe, UserError
from offramp.methods import method
from offramp.recipes.file import shipped

MSDNET = {"own_to_shared": 1.0, "scales": "coarsest", "impl": "cat"}

# epochs, batch, weight decay, milestones, augmentation, options: Gong et al. 2024, Sun et al. 2022
PUBLISHED = {
    "paper": (300, 500, 5e-4, (250, 280, 295), "dfs-autoaugment", {}),
    "official_vgg": (300, 500, 1e-4, (270, 280, 295), "dfs-autoaugment", {"impl": "split"}),
    "official_resnet": (300, 500, 5e-4, (250, 280, 295), "dfs-autoaugment", {"impl": "cat"}),
    "official_msdnet": (300, 500, 5e-4, (250, 280, 295), "dfs", MSDNET),
    "paper_imagenet": (90, 256, 0.0, (70, 80, 85), "imagenet", {}),
    "official_msdnet_imagenet": (90, 256, 0.0, (70, 80, 85), "imagenet", MSDNET),
    "msdnet": (300, 64, 1e-4, (150, 225), "msdnet", {}),
    "dr_mgf_imagenet": (90, 512, 1e-4, (30, 60), "imagenet", {}),
    "sdn_vgg": (100, 64, 5e-4, (50, 75), "crop-flip", {}),
    "sdn_resnet": (100, 64, 1e-4, (50, 75), "crop-flip", {}),
    "sdn_wideresnet": (100, 64, 5e-4, (50, 75), "crop-flip", {}),
}  # fmt: skip

# of these nets the authors' code says how the method is set, and nothing says how they were trained
OPTIONS_ALONE = {"official_vit": {"own_to_shared": 1.0, "impl": "cat"}, "official_bert": {"impl": "cat"}}


def test_every_shipped_recipe_is_tested():
    assert set(shipped()) == {*PUBLISHED, *OPTIONS_ALONE, "nyuv2"}


@pytest.mark.parametrize("name", OPTIONS_ALONE)
def test_where_no_schedule_was_published_none_is_made_up(name):
    recipe = Recipe.load(name)
    assert recipe == Recipe(options=OPTIONS_ALONE[name])
    assert method("dfs", recipe.options).options["impl"] == "cat"


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_recipes_say_what_was_published(name):
    recipe = Recipe.load(name)
    found = (recipe.epochs, recipe.batch_size, recipe.weight_decay, recipe.milestones)
    found += (recipe.augment, recipe.options)
    assert found == PUBLISHED[name]
    assert recipe.size == (224 if name.endswith("imagenet") else None)
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.nesterov) == ("sgd", 0.1, 0.9, False)
    assert (recipe.schedule, recipe.gamma) == ("multistep", 0.1)
    held_out = 0.1 if name.startswith(("msdnet", "sdn")) else 0.0
    assert recipe.val_fraction == (0.039 if name == "dr_mgf_imagenet" else held_out)  # 50,000 of 1,281,167
    method("dfs", recipe.options)  # the options exist


def test_the_recipe_of_dense_prediction_says_what_was_published():
    """MTAN's and DR-MGF's: Adam without decay, halved at half of 200 epochs; milestones scale along."""
    recipe = Recipe.load("nyuv2")
    assert recipe == Recipe(
        epochs=200, batch_size=2, optimizer="adam", lr=1e-4, weight_decay=0.0, schedule="multistep",
        milestones=(100,), gamma=0.5, augment="nyuv2", val_fraction=0.0,
        last_epochs=10,
    )  # fmt: skip
    assert recipe.replace(epochs=8).milestones == (4,)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 89])
def test_fewer_epochs_scale_the_milestones_and_say_so(name, epochs, capsys):
    whole = Recipe.load(name)
    recipe = whole.with_settings([f"epochs={epochs}"])
    line = capsys.readouterr().err
    assert line.startswith(f"recipe: milestones {list(whole.milestones)} of {whole.epochs} epochs ")
    assert line.count("\n") == 1
    if epochs == 1:
        assert (recipe.schedule, recipe.milestones) == ("constant", ())
        return
    shares = [m / whole.epochs for m in whole.milestones]
    assert all(min(abs(m - s * epochs) for s in shares) <= 1 for m in recipe.milestones)
    assert str(list(recipe.milestones)) in line


def test_milestones_that_are_given_or_fit_a_longer_run_stay(capsys):
    whole = Recipe.load("msdnet")
    assert whole.replace(epochs=3, milestones=(1, 2)).milestones == (1, 2)
    assert whole.replace(epochs=400).milestones == whole.milestones
    assert Recipe.from_dict(whole.to_dict()) == whole
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="milestone 225 is not within 3 epochs"):
        whole.replace(epochs=3, milestones=whole.milestones)


def test_yaml_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 12\nlr: 1e-2\nmilestones: [3, 9]\nschedule: multistep\ntest_limit:\nbeta: .7\n")
    recipe = Recipe.load(file)
    assert recipe == Recipe(
        epochs=12, lr=0.01, milestones=(3, 9), schedule="multistep", options={"beta": 0.7}
    )
    assert Recipe.load(str(file)) == recipe


@pytest.mark.parametrize("tasks", ["{class: label, box: box:box}", "class:label,box:box:box"])
def test_several_targets(tasks, tmp_path):
    (tmp_path / "r.yaml").write_text(f"tasks: {tasks}")
    recipes = Recipe.load(tmp_path / "r.yaml"), Recipe().with_settings([f"tasks={tasks}"])
    for recipe in recipes:
        assert recipe.tasks == {"class": "label", "box": "box:box"}
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(UserError, match="recipe: label is 'fine', the column of one class, and tasks names"):
        recipes[0].replace(label="fine")


def test_an_empty_file_is_the_default(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert Recipe.load(tmp_path / "empty.yaml") == Recipe()


def test_settings_are_typed():
    recipe = Recipe(options={"beta": 0.9}).with_settings(
        ["epochs=7", "lr=3e-4", "compile=true", "optimizer=adamw", "milestones=[2, 4]",
         "test_limit=50", "impl=cat", "weight_decay=0"]
    )  # fmt: skip
    assert recipe == Recipe(
        epochs=7, lr=3e-4, compile=True, optimizer="adamw", milestones=(2, 4), test_limit=50,
        weight_decay=0.0, options={"beta": 0.9, "impl": "cat"},
    )  # fmt: skip
    assert type(recipe.weight_decay) is float
    assert recipe.with_settings(["test_limit=null", "options={}"]).options == {}


def test_on_and_off_are_words_not_booleans():
    assert Recipe().with_settings(["reference=on"]).options == {"reference": "on"}


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(milestones=(3,), options={"beta": 0.3, "where": [1, 2]})]
)
def test_to_dict_goes_through_json_and_back(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_recipe_cannot_be_changed():
    recipe = Recipe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 1.0
    assert recipe.replace(lr=1.0).lr == 1.0
    assert recipe.lr == 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, ["epochs", "0", "at least 1"]),
        ({"epochs": 2.5}, ["epochs", "2.5", "whole"]),
        ({"epochs": "ten"}, ["epochs", "'ten'"]),
        ({"epochs": True}, ["epochs", "True"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": 2**63}, ["seed", str(2**63), f"below {2**63}"]),
        ({"size": 0}, ["size", "0", "at least 1"]),
        ({"self": 3}, ["no recipe key", "'self'"]),
        ({"lr": 0}, ["lr", "0", "above 0"]),
        ({"lr": -0.1}, ["lr", "-0.1"]),
        ({"lr": float("nan")}, ["lr", "nan"]),
        ({"lr": 1e300}, ["lr", "1e+300", "at most 1e30"]),
        ({"weight_decay": 1e300}, ["weight_decay", "1e+300", "from 0 to 1e30"]),
        ({"lr": "fast"}, ["lr", "'fast'"]),
        ({"momentum": 1.0}, ["momentum", "1.0"]),
        ({"momentum": 0}, ["nesterov", "momentum"]),
        ({"weight_decay": -1e-4}, ["weight_decay"]),
        ({"label_smoothing": 1}, ["label_smoothing", "1"]),
        ({"val_fraction": 1.0}, ["val_fraction", "1.0"]),
        ({"clip": -1}, ["clip", "-1"]),
        ({"gamma": 0}, ["gamma"]),
        ({"checkpoint_every": -1}, ["checkpoint_every"]),
        ({"train_limit": 0}, ["train_limit", "0"]),
        ({"schedule": "cosin"}, ["schedule", "'cosin'", "did you mean 'cosine'"]),
        ({"optimizer": "lion"}, ["optimizer", "'lion'", "sgd, adam or adamw"]),
        ({"precision": "fp8"}, ["precision", "fp8", "fp32, bf16 or fp16"]),
        ({"compile": "yes"}, ["compile", "'yes'", "true or false"]),
        ({"augment": 3}, ["augment", "3"]),
        ({"schedule": "multistep"}, ["multistep", "milestones"]),
        ({"schedule": "multistep", "milestones": (250,)}, ["milestone 250", "30 epochs"]),
        ({"milestones": (5, 3)}, ["milestones", "[5, 3]"]),
        ({"milestones": 5}, ["milestones", "5", "list"]),
        ({"options": 3}, ["options", "3", "mapping"]),
        ({"epcohs": 3}, ["'epcohs'", "did you mean 'epochs'"]),
        ({"bta": 0.3}, ["'bta'", "did you mean 'beta'"]),
    ],
)
def test_wrong_values_are_named(changes, words):
    with pytest.raises(UserError) as caught:
        Recipe().replace(**changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", ["mapping"]),
        ("epochs: [1\n", ["not YAML"]),
        ("1: 2\n", ["mapping"]),
        ("epochs: 0\n", ["epochs is 0"]),
        ("lr: !!python/object/apply:os.system ['true']\n", ["not YAML", "python/object"]),
    ],
)
def test_wrong_files_are_named(tmp_path, text, words):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        Recipe.load(file)
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(file), *words]:
        assert word in message


@pytest.mark.parametrize("text", ["epochs", "=3", "epochs=[1"])
def test_settings_that_are_none(text):
    with pytest.raises(UserError, match=r"key=value|not YAML"):
        Recipe().with_settings([text])


def test_a_missing_file_lists_what_there_is():
    with pytest.raises(UserError, match=r"official_vg.*did you mean 'official_vgg'.*msdnet, .*paper"):
        Recipe.load("official_vg")
