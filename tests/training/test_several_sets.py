"""Training on a data set per task: what is descended on, resumed, refused, recorded and opened again."""

from __future__ import annotations

import json

import pytest
import torch
from several_sets import one_set, partly_labelled, two_alphabets, two_sets, two_tasks
from tiny_runs import rows
from torch.nn import functional as F

from offramp import Recipe, Run, UserError, fit, open_data
from offramp.data import JointData, JointTransform, Split, Streams
from offramp.recipes._streams import PER_SET
from offramp.runs.sets import SETTINGS, recorded_transform

RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, augment="none", checkpoint_every=2)


class Wire(Split):
    """Training samples that stop the process before a certain batch of theirs."""

    left = None

    def batches(self, batch_size, **how):
        for batch in super().batches(batch_size, **how):
            if how.get("shuffle") and Wire.left is not None:
                Wire.left -= 1
                if Wire.left < 0:
                    raise KeyError("stop")
            yield batch


def test_joint_training_is_the_sum_of_two_loops_in_step():
    """Plain PyTorch, a forward pass for each set's half of the batch."""
    recipe = RECIPE.replace(schedule="constant", momentum=0, nesterov=False, weight_decay=0, seed=3)
    run = fit(two_tasks(), two_sets(), "joint", recipe, quiet=True)
    net, data = two_tasks(), JointData(two_sets())
    clean = {name: each.statistics for name, each in data.sets.items()}
    boxes = net.outputs["box"]
    for epoch in range(3):
        for batch in data.train.batches(
            8,
            transform=JointTransform({name: lambda batch, _: batch for name in data.sets}),
            device="cpu",
            seed=3,
            epoch=epoch,
            shuffle=True,
        ):
            images = {
                name: (part.inputs - torch.tensor(clean[name][0])) / torch.tensor(clean[name][1])
                for name, part in batch.parts.items()
            }
            assert [len(part) for part in images.values()] == [4, 4]
            loss = F.cross_entropy(net(images["kind"])[0], batch.targets["kind"])
            loss = loss + boxes.loss(net(images["box"])[1], batch.targets["box"])[0].mean()
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.05 * parameter.grad
    torch.testing.assert_close(run.net.state_dict(), net.state_dict(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("streams", ["together", "in-turn"])
@pytest.mark.parametrize("method", ["joint", "nash-mtl", "uncertainty", "dr-mgf"])
def test_a_stopped_run_goes_on_to_the_bit(method, streams, tmp_path):
    recipe = RECIPE.replace(streams=streams, epoch_of="shortest", proportions={"kind": 2}, batch_size=6)
    alone = fit(two_tasks(norm=True), two_sets(), method, recipe, tmp_path / "alone", quiet=True)
    assert {*alone.result.outputs} == {"kind", "box"}
    Wire.left = 9
    with pytest.raises(KeyError):
        fit(two_tasks(norm=True), two_sets(Wire), method, recipe, tmp_path / "run", quiet=True)
    Wire.left = None
    resumed = fit(two_tasks(9, norm=True), two_sets(), resume=True, out=tmp_path / "run", quiet=True)
    torch.testing.assert_close(resumed.net.state_dict(), alone.net.state_dict(), rtol=0, atol=0)
    assert resumed.result == alone.result
    assert rows(tmp_path / "run") == rows(tmp_path / "alone")


@pytest.mark.parametrize(
    ("streams", "method"), [("together", "pcgrad"), ("in-turn", "pcgrad"), ("together", "joint")]
)
def test_passes_count_the_samples_that_go_forward_and_back(streams, method, tmp_path):
    """Counted at the trunk's first layer, as multiples of the epoch's samples."""
    net, seen = two_tasks(), {"forward": 0, "backward": 0}

    def count(direction, batch):
        if len(batch) > 2:  # with two it is rehearsed
            seen[direction] += len(batch)

    def counted(_, __, output):
        if output.requires_grad:
            count("forward", output)
            output.register_hook(lambda gradient: count("backward", gradient))

    net.stages[0][0].register_forward_hook(counted)
    recipe = RECIPE.replace(streams=streams, epochs=1, batch_size=16, proportions={"kind": 3})
    fit(net, two_sets(), method, recipe, tmp_path / "run", quiet=True)
    data = JointData(two_sets(), Streams(streams, "longest", {"kind": 3}))
    samples = 16 * data.train.num_batches(16, drop_last=True)
    assert float(rows(tmp_path / "run")[0]["passes"]) == pytest.approx(
        (seen["forward"] + 2 * seen["backward"]) / (3 * samples)
    )


@pytest.mark.parametrize("method", ["joint", "cagrad"])
def test_micro_batches_take_the_steps_of_whole_batches(method):
    whole = fit(two_tasks(), two_sets(), method, RECIPE, quiet=True)
    cut = fit(two_tasks(), two_sets(), method, RECIPE.replace(accumulate=2), quiet=True)
    torch.testing.assert_close(cut.net.state_dict(), whole.net.state_dict(), rtol=1e-3, atol=1e-5)


def test_each_output_is_evaluated_on_its_own_set():
    run = fit(two_tasks(), two_sets(), "joint", RECIPE, quiet=True)
    net = run.net.eval()
    for k, (name, data) in enumerate(two_sets().items()):
        mean, std = data.statistics
        images = (data.test.images - torch.tensor(mean)) / torch.tensor(std)
        with torch.no_grad():
            output = net(images)[k]
        task = net.outputs[name]
        expected = task.metrics(task.counts(output, data.test.targets[name]))
        assert run.result.outputs[name].metrics == pytest.approx(expected)


def test_a_record_tells_each_set_and_its_statistics(tmp_path):
    run = fit(two_tasks(), two_sets(), "joint", RECIPE, tmp_path / "run", quiet=True)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["targets"].keys() == {"kind", "box"}
    assert {name: each["input_size"] for name, each in record["data"]["sets"].items()} == {
        "kind": [1, 6, 6], "box": [1, 8, 7],
    }  # fmt: skip
    for name, data in two_sets().items():
        assert recorded_transform(record).parts[name].mean == pytest.approx(data.statistics[0])
    again = Run.open(tmp_path / "run", two_tasks(5))
    with pytest.raises(UserError, match="no name opens again"):
        again.open_data()
    assert again.evaluate(JointData(two_sets())).outputs == run.result.outputs
    for other in (one_set("kind"), JointData({"kind": one_set("kind"), "more": one_set("box")})):
        with pytest.raises(UserError, match="several data sets; give one for each of the names kind, box"):
            again.evaluate(other)
    single = fit(two_tasks(), partly_labelled(), "joint", RECIPE.replace(epochs=1), quiet=True)
    with pytest.raises(UserError, match="trained on one data set; give one to evaluate"):
        single.evaluate(JointData(two_sets()))
    other = two_sets() | {"box": one_set("box", 18)}
    with pytest.raises(UserError, match="holds a run with another data"):
        fit(two_tasks(), other, "joint", RECIPE, tmp_path / "run", resume=True, quiet=True)


def test_sets_opened_by_name_have_settings_of_their_own_and_open_again(tmp_path):
    """Digits twice, cut and augmented differently."""
    own = {"right": {"train_limit": 30, "augment": "crop-flip"}}
    recipe = Recipe(epochs=1, batch_size=16, augment="none", test_limit=40, train_limit=60, sets=own)
    sources = {"left": "digits", "right": "digits"}
    run = fit(two_alphabets(), sources, "cagrad", recipe, tmp_path / "run", quiet=True)
    again = Run.open(tmp_path / "run", two_alphabets(4))
    data = again.open_data()
    assert {name: len(each.train) for name, each in data.sets.items()} == {"left": 54, "right": 27}
    assert again.evaluate() == run.result
    done = fit(two_alphabets(5), data, recipe=recipe, out=tmp_path / "run", resume=True, quiet=True)
    assert done.result == run.result
    assert again.evaluate(sources).outputs.keys() == {"left", "right"}  # on all test images
    with pytest.raises(UserError, match="give one for each of the names left, right"):
        again.evaluate("digits")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_size": 2, "proportions": {"box": 5}}, "has no sample of 'kind' in these proportions"),
        ({"batch_size": 40}, "the 17 training samples of 'box' do not fill its 20 of a batch"),
        ({"batch_size": 40, "streams": "in-turn"}, "the 30 training samples of 'kind' do not fill its 40"),
        ({"batch_size": 4, "accumulate": 3}, "a batch has only 2 samples of 'kind' for each process"),
    ],
)
def test_a_batch_that_a_set_cannot_fill_is_a_line_whose_remedy_works(settings, match):
    recipe = RECIPE.replace(epochs=1, **settings)
    with pytest.raises(UserError, match=match) as refused:
        fit(two_tasks(), two_sets(), "joint", recipe, quiet=True)
    remedy = str(refused.value).rsplit("take `", 1)[1].removesuffix("`")
    fit(two_tasks(), two_sets(), "joint", recipe.with_settings(remedy.split(", ")), quiet=True)


@pytest.mark.parametrize(
    ("data", "settings", "match"),
    [
        (lambda: {"train": 1, "depth": 2}, {}, r"some are splits \(train\) and some are not \(depth\)"),
        (lambda: {"kind": one_set("kind"), "more": one_set("kind", 20)}, {}, "box looks for 'box' among"),
        (
            lambda: {**two_sets(), "more": one_set("kind", 20)},
            {},
            "the data set 'more' has targets for 'more', and no output of the net learns from them",
        ),
        (lambda: {"kind": one_set("kind")}, {}, "'kind' names the only data set, which needs no name"),
        (two_sets, {"proportions": {"boxes": 2}}, "proportions names a data set 'boxes' .did you mean 'box'"),
        (lambda: {1: one_set("kind"), 2: one_set("box")}, {}, "data sets are called 1, 2; give them names"),
        (lambda: {"a": JointData(two_sets()), "b": one_set("box")}, {}, "'a' is several sets itself"),
        (two_sets, {"sets": {"mask": {}}}, "sets names a data set 'mask'; there are kind, box"),
        (
            lambda: one_set("kind"),
            {"streams": "in-turn"},
            "streams is for several data sets, and there is one",
        ),
    ],
)
def test_what_cannot_be_is_one_line(data, settings, match):
    with pytest.raises(UserError, match=match):
        fit(two_tasks(), data(), "joint", RECIPE.replace(**settings), quiet=True)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"streams": "parallel"}, "streams is 'parallel', must be together or in-turn"),
        ({"epoch_of": "longst"}, "epoch_of is 'longst' .did you mean 'longest'"),
        ({"proportions": {"a": 0}}, "proportions: that of a is 0, must be a whole number of at least 1"),
        ({"proportions": [1, 2]}, "proportions is .*, must be a mapping from names of data sets"),
        ({"sets": {"a": {"siz": 3}}}, "sets: a: 'siz' is no setting of one data set .did you mean 'size'"),
        ({"sets": {"a": {"size": 0}}}, "sets: a: size is 0, must be a whole number of at least 1"),
        ({"sets": {"a": 3}}, "sets: a is 3, must be a mapping of settings"),
    ],
)
def test_settings_are_checked_as_the_recipe_is_built(settings, match):
    with pytest.raises(UserError, match=match):
        Recipe(**settings)


def test_outputs_of_other_samples_are_not_distilled():
    sources = {"left": "digits", "right": "digits"}
    with pytest.raises(UserError, match="'kd' compares outputs for the same samples, and each data set has"):
        fit(two_alphabets(), sources, "kd", Recipe(train_limit=60), quiet=True)


@pytest.mark.parametrize("method", ["rotograd", "mgda-ub"])
def test_gradients_at_the_features_of_other_samples_are_not_compared(method):
    sources = {"left": "digits", "right": "digits"}
    with pytest.raises(UserError, match="compares gradients at the features of the same samples"):
        fit(two_alphabets(), sources, method, Recipe(train_limit=60), quiet=True)


def test_what_decides_how_a_set_is_read_can_be_each_set_s_own():
    assert {*PER_SET} == {*SETTINGS, "augment"}


def test_sets_with_a_target_in_common_are_refused():
    both = one_set("kind")
    both.targets = {"kind": both.targets["kind"], "box": one_set("box").targets["box"]}
    with pytest.raises(UserError, match="'a' and 'box' both have targets for 'box'"):
        open_data({"a": both, "box": one_set("box")})
    assert open_data({"kind": both, "box": one_set("box")}).keys == {
        "kind": {"kind": "kind"}, "box": {"box": "box"},
    }  # fmt: skip
    assert open_data({"a": one_set("kind"), "b": one_set("box")}).targets.keys() == {"a", "b"}
    assert open_data(two_sets()).drawn(Streams("in-turn")).train.streams.order == "in-turn"
