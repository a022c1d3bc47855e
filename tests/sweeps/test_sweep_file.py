from fractions import Fraction
from pathlib import Path

import pytest

from offramp import Recipe, UserError
from offramp.cli._sweep import parse_factors
from offramp.sweeps._trials import check_trials, trials
from offramp.sweeps.file import read_sweep

GOOD = {
    "data": "digits",
    "net": "vgg7:width=4",
    "out": "runs/s",
    "seeds": "[0, 3]",
    "epochs": "2",
    "lr": "1e-1",
    "methods": "[joint, {method: dfs, own_to_shared: 1, weight_decay: 0}]",
}


def test_several_targets(sweep_file):
    sweep = read_sweep(sweep_file(tasks="{class: label, box: box}"))
    assert {str(run.recipe.tasks) for run in trials(sweep, [Fraction(1)])} == {
        "{'class': 'label', 'box': 'box'}"
    }


@pytest.fixture
def sweep_file(tmp_path):
    """Writes a sweep with some keys changed, or left out where None."""

    def write(**changes):
        lines = [f"{key}: {value}" for key, value in {**GOOD, **changes}.items() if value is not None]
        (tmp_path / "s.yaml").write_text("\n".join(lines))
        return tmp_path / "s.yaml"

    return write


def test_settings_are_the_recipes_and_a_method_may_have_its_own(sweep_file):
    plan = read_sweep(sweep_file())
    assert (plan.data, plan.net, plan.out, plan.seeds) == ("digits", "vgg7:width=4", Path("runs/s"), (0, 3))
    joint, dfs = plan.entries
    assert joint.recipe == Recipe(epochs=2, lr=0.1)
    assert dfs.recipe == Recipe(epochs=2, lr=0.1, weight_decay=0, options={"own_to_shared": 1})
    assert (joint.label, dfs.label) == ("joint", "dfs own_to_shared=1 weight_decay=0")
    assert dfs.method.options["own_to_shared"] == 1
    assert dfs.method.options["beta"] == 0.5


def test_the_options_of_a_recipe_go_to_the_methods_that_have_them(sweep_file, tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 7\nbeta: 0.75\nbatch_size: 10\n")
    plan = read_sweep(
        sweep_file(recipe=tmp_path / "mine.yaml", methods="[joint, dfs, {method: dfs, beta: 0.9}]")
    )
    assert [dict(entry.recipe.options) for entry in plan.entries] == [{}, {"beta": 0.75}, {"beta": 0.9}]
    assert plan.entries[0].recipe.replace(options={}) == Recipe(epochs=2, lr=0.1, batch_size=10)


def test_options_may_carry_the_name_of_their_method(sweep_file, tmp_path):
    (tmp_path / "mine.yaml").write_text("dfs.scales: all\nge.scales: all\n")
    methods = "[joint, dfs, {method: dfs+ge, dfs.beta: 0.9}]"
    plan = read_sweep(sweep_file(recipe=tmp_path / "mine.yaml", methods=methods))
    assert [dict(entry.recipe.options) for entry in plan.entries] == [
        {},
        {"dfs.scales": "all"},
        {"dfs.scales": "all", "ge.scales": "all", "dfs.beta": 0.9},
    ]
    assert [rule.scales for rule in plan.entries[2].method.forks] == ["all", "all"]
    assert plan.entries[2].method.forks[0].beta == 0.9


def test_data_sets_may_have_the_names_of_settings(sweep_file):
    assert read_sweep(sweep_file(data="{size: a, classes: b}")).data == {"size": "a", "classes": "b"}


def test_data_and_out_can_be_given_beside_the_file(sweep_file):
    plan = read_sweep(sweep_file(out=None), data="path/to", out="elsewhere")
    assert (plan.data, plan.out) == ("path/to", Path("elsewhere"))


def test_runs_are_seed_by_seed_and_name_the_factor_of_the_learning_rate(sweep_file):
    plan = read_sweep(sweep_file(methods="[joint, {method: dfs, own_to_shared: 1}]"))
    assert [run.name for run in trials(plan, parse_factors("1"))] == [
        "joint/seed-0", "dfs-own_to_shared=1/seed-0", "joint/seed-3", "dfs-own_to_shared=1/seed-3",
    ]  # fmt: skip
    searched = trials(plan, parse_factors("1/3, 1,3"))
    assert len(searched) == 12
    assert [run.name for run in searched[:3]] == [
        f"joint/seed-0{end}" for end in ("-lr-x0.333", "", "-lr-x3")
    ]
    assert [run.recipe.lr for run in searched[:3]] == pytest.approx([0.1 / 3, 0.1, 0.3])
    assert searched[0].folder == Path("runs/s/joint/seed-0-lr-x0.333")


def test_the_command_of_a_run_is_its_recipe(sweep_file):
    from offramp.cli._parse import parse
    from offramp.cli._train import TrainCommand

    plan = read_sweep(sweep_file(milestones="[1]", schedule="multistep", augment='"none"', train_limit=64))
    for run in trials(plan, (Fraction(1), Fraction(1, 3))):
        job = run.job(plan)
        assert job.words[1:4] == ["-m", "offramp", "train"]
        command = parse(TrainCommand, "offramp train", job.words[4:])
        assert command._recipe(None) == run.recipe
        assert (command.data, command.net) == (((plan.data,),), plan.net)
        assert command.method == run.entry.method.name
        assert (command.out, command.resume) == (str(run.folder), True)


def test_weights_to_start_from_are_for_all_or_for_one(sweep_file):
    from offramp.cli._parse import parse
    from offramp.cli._train import TrainCommand

    methods = "[joint, {method: joint, init: -b}, {method: dfs, init: null}]"
    plan = read_sweep(sweep_file(init="a.pt", methods=methods, seeds="[0]"))
    assert [entry.init for entry in plan.entries] == ["a.pt", "-b", None]
    runs = trials(plan, (Fraction(1),))
    assert [run.name for run in runs] == ["joint/seed-0", "joint-init=-b/seed-0", "dfs-init=None/seed-0"]
    commands = [parse(TrainCommand, "offramp train", run.job(plan).words[4:]) for run in runs]
    assert [command.init for command in commands] == ["a.pt", "-b", None]


def test_one_start_under_two_names_is_one_method(sweep_file):
    with pytest.raises(UserError, match="'joint' are the same; leave one out"):
        trials(
            read_sweep(sweep_file(init="a.pt", methods="[joint, {method: joint, init: a.pt}]")), [Fraction(1)]
        )


def test_words_that_begin_with_a_dash_are_no_flags(sweep_file):
    from offramp.cli._parse import parse
    from offramp.cli._train import TrainCommand

    plan = read_sweep(sweep_file(data="{a: -x, b: --y}", net="-n", out="./-o"))
    command = parse(TrainCommand, "offramp train", trials(plan, (Fraction(1),))[0].job(plan).words[4:])
    assert command.data == (("a=-x",), ("b=--y",))
    assert (command.net, command.out) == ("-n", "-o/joint/seed-0")


def test_a_label_of_any_length_is_a_folder(sweep_file, tmp_path):
    names = [f"class {i}" for i in range(500)]
    methods = f"[{{method: joint, classes: {names}}}, {{method: joint, classes: {names[1:]}}}]"
    folders = [
        run.name.split("/")[0] for run in trials(read_sweep(sweep_file(methods=methods)), (Fraction(1),))
    ]
    assert len({*folders}) == 2
    assert all(len(folder) < 100 and folder.startswith("joint") for folder in folders)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": None}, "lacks 'seeds'"),
        ({"out": "-x"}, "out is '-x', which commands take for a flag; write './-x'"),
        ({"out": "a/" + "n" * 300}, "a name has 300 bytes"),
        ({"data": "{1: a}"}, "must be text, or a mapping from names to text"),
        ({"data": "{}"}, "must be text, or a mapping from names to text"),
        ({"seeds": "[[0], [0]]"}, "seed is [0], must be a whole number"),
        ({"options": "{a: 1}"}, "no key 'options'"),
        ({"init": 3}, "init is 3, must be a run folder or a file of weights, or null"),
        ({"methods": "[{method: dfs, init: [a]}]"}, "dfs: init is ['a'], must be a run folder"),
        ({"epoch": 3}, "no key 'epoch' (did you mean 'epochs'?)"),
        ({"seed": 3}, "no key 'seed' (did you mean 'seeds'?)"),
        ({"beta": 0.5}, "'beta' is an option of methods and not of all"),
        ({"seeds": "3"}, "must be a list of different whole numbers"),
        ({"seeds": "[1, 1]"}, "must be a list of different whole numbers"),
        ({"seeds": "[-1]"}, "seed is -1"),
        ({"net": 7}, "net is 7, must be text"),
        ({"out": "''"}, "out is '', must be the path of the folder of the runs"),
        ({"methods": "[{method: joint, net: 7}]"}, "methods: joint: net is 7, must be text"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"recipe": "papre"}, "did you mean 'paper'?"),
        ({"methods": "joint"}, "methods must be a list"),
        ({"methods": "[jiont]"}, "no method 'jiont' (did you mean 'joint'?)"),
        ({"methods": "[dfs own_to_shared=1]"}, "write it as {method: dfs, own_to_shared: 1}"),
        ({"methods": "['dfs:beta=0.5, lr=1']"}, "write it as {method: dfs, beta: 0.5, lr: 1}"),
        ({"jobs": 2}, "jobs is not of the file; give it with the command: --jobs 2"),
        ({"methods": "[{method: dfs, ray: x}]"}, "dfs: ray is not of the file; give it with the command"),
        ({"methods": "[jiont=1]"}, "no method 'jiont=1'"),
        ({"methods": "[dfs+joint]"}, "'joint' is what every method starts from"),
        ({"methods": "[{beta: 0.5}]"}, "a mapping with the key method"),
        (
            {"methods": "[{method: joint, wieghts: {exit 1: 2}}]"},
            "joint: no key 'wieghts' (did you mean 'weights'?)",
        ),
        ({"methods": "[{method: dfs, bta: 0.5}]"}, "dfs: no key 'bta' (did you mean 'beta'?)"),
        ({"methods": "[{method: dfs+ge, scales: all}]"}, "say which: dfs.scales or ge.scales"),
        ({"methods": "[{method: dfs, beta: 1.5}]"}, "dfs: beta is 1.5, must be a number above 0 and below 1"),
        ({"methods": "[{method: dfs, epochs: 0}]"}, "dfs: recipe: epochs is 0"),
        ({"methods": "[{method: dfs, test_limit: 9}]"}, "test_limit is one for all methods"),
        ({"methods": "[{method: dfs, seeds: [1]}]"}, "dfs: seeds is one for all methods; give it beside"),
        ({"methods": "[{method: dfs, data: {a: b}}]"}, "dfs: data is one for all methods; give it beside"),
        ({"methods": "[{method: dfs, recipe: mine.yaml}]"}, "dfs: recipe is one for all methods"),
        (
            {"methods": "[{method: dfs, recipe: {lr: 0.1}}]"},
            "methods: dfs: 'recipe' holds a mapping; write its keys without it, beside method",
        ),
        ({"methods": "[{method: dfs, options: {beta: 0.9}}]"}, "dfs: 'options' holds a mapping; write its"),
        ({"methods": "[{dfs: {beta: 0.9}}]"}, "the key method, e.g. {method: dfs, beta: 0.9}"),
        ({"recipe": "{lr: 0.1}"}, "'recipe' holds a mapping; write its keys without it, beside net and data"),
        ({"settings": "{lr: 0.1}"}, "'settings' holds a mapping; write its keys without it, beside net"),
        (
            {"c": "0.4"},
            "'c' is an option of methods and not of all; give it with one that has it, e.g. methods: "
            "[{method: cagrad, c: 0.4}]",
        ),
        ({"methods": "[{method: dfs, seed: 9}]"}, "no key 'seed'"),
        ({"methods": "["}, "not YAML"),
    ],
)
def test_mistakes_are_one_line_that_names_the_file(sweep_file, changes, says):
    path = sweep_file(**changes)
    with pytest.raises(UserError) as error:
        read_sweep(path)
    assert says in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the sweep .*no such file"):
        read_sweep(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("methods", "factors", "val", "says"),
    [
        ("[joint, joint]", "1", 0.1, "'joint' and 'joint' are the same"),
        ("[dfs, {method: dfs, beta: 0.5}]", "1", 0.1, "'dfs beta=0.5' and 'dfs' are the same"),
        ("[joint, {method: joint, lr: 0.3}]", "1,3", 0.1, "'joint lr=0.3' and 'joint' are the same"),
        ("[joint]", "1,3", 0, "picked on validation images, and there are none"),
    ],
)
def test_runs_that_make_no_comparison_are_refused(sweep_file, methods, factors, val, says):
    plan = read_sweep(sweep_file(methods=methods, val_fraction=val))
    with pytest.raises(UserError, match=says):
        trials(plan, parse_factors(factors))


@pytest.mark.parametrize("text", ["", "1,1", "0,1", "-1", "a", "1/0", "1,,3", "١/٣"])
def test_bad_factors_are_refused(text):
    with pytest.raises(UserError, match="different numbers above 0"):
        parse_factors(text)


def test_a_method_may_have_a_net_of_its_own(sweep_file):
    from offramp.cli._parse import parse
    from offramp.cli._train import TrainCommand

    methods = "[joint, {method: joint, net: 'segnet_split:width=2'}, {method: separate, net: segnet_split}]"
    plan = read_sweep(sweep_file(net="segnet_mtan:width=2", methods=methods))
    assert [entry.net for entry in plan.entries] == [
        "segnet_mtan:width=2",
        "segnet_split:width=2",
        "segnet_split",
    ]
    runs = trials(plan, (Fraction(1),))
    assert [run.name for run in runs][1] == "joint-net=segnet_split-width=2/seed-0"
    for run in runs:
        assert parse(TrainCommand, "offramp train", run.job(plan).words[4:]).net == run.entry.net


def test_nets_with_exits_do_not_stand_in_one_table(sweep_file):
    plan = read_sweep(sweep_file(methods="[joint, {method: joint, net: 'vgg7:width=8'}]", epochs=1))
    with pytest.raises(UserError, match="'vgg7:width=8' has exits, and 'vgg7:width=4' is another net"):
        check_trials(plan, trials(plan, (Fraction(1),)))
