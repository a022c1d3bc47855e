"""Every published figure is drawn at the tiniest scale, from runs that figures and tables share."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import offramp
from offramp import UserError
from offramp.nets.text import build
from offramp.reproduce import EXPERIMENTS, plan, reproduce, reproduction
from offramp.reproduce._dr_mgf_figures import beside_similarity
from offramp.runs.sets import open_set
from offramp.sweeps import SweepResult
from offramp.sweeps._trials import trials

STAND_INS = {
    "CIFAR-10": "digits",
    "CIFAR-100": "digits",
    "NYUv2": "rooms:images=8,test=2,height=32,width=32",
}
FIGURES = [name for name, each in EXPERIMENTS.items() if each.kind == "figure"]
PICTURES = {
    "dfs-fig3": {"budget"},
    "dfs-fig5-accuracy": {"beta"},
    "dr-mgf-fig4": {"conflict"},
    "dr-mgf-fig5": {"importance", "importance-same-owners"},
    "dr-mgf-fig7": {"budget"},
    "dr-mgf-fig10": {"convergence"},
    "dr-mgf-fig11": {"convergence"},
    "dr-mgf-fig12": {"routes", "routes-importance", "similarity"},
    "dr-mgf-fig13": {"routes", "routes-importance", "similarity"},
}
TRAINED = []


def figure_of(name):
    """``dr-mgf-fig7`` of ``dr-mgf-fig7-vgg-cifar100``."""
    return name if name in PICTURES else "-".join(name.split("-")[:3])


def in_process(sweep, *, jobs, quiet):
    """The trainings of a sweep, one after the other and without new processes."""
    folders = {}
    for trial in trials(sweep, (Fraction(1),)):
        if not trial.finished:
            data = open_set(sweep.data, trial.recipe)
            torch.manual_seed(0)
            net = build(trial.entry.net, input_size=data.input_size, targets=data.targets)
            recipe = trial.recipe.replace(options={}, test_limit=2)
            offramp.fit(net, data, trial.entry.method, recipe, trial.folder, quiet=True)
            TRAINED.append(trial.folder)
        folders[trial.entry.label] = (trial.folder,)
    return SweepResult(tuple(folder for (folder,) in folders.values()), (), folders)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def drawn(runs, monkeypatch):
    """Draws a figure; figures that share the runs of a table do so here."""
    monkeypatch.setattr(reproduction, "sweep", in_process)

    def draw(name):
        experiment = EXPERIMENTS[name]
        rows = [row.label for row in experiment.rows if not row.untrained]
        planned = plan(
            name,
            only=rows[:1] if "budget" in PICTURES[figure_of(name)] else [rows[0], rows[-1]],
            out=runs / (experiment.runs or name),
            stand_in=f"{experiment.data}={STAND_INS[experiment.data]}",
            scale="1/100000",
        )
        found = reproduce(planned, quiet=True)
        folder = runs / (experiment.runs or name) / name
        assert json.loads((folder / "reproduction.json").read_text()) == json.loads(
            json.dumps(found.document)
        )
        assert (folder / "reproduction.txt").read_text() == found.text + "\n"
        return found, folder

    return draw


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIGURES if not name.endswith("cifar10")])
def test_every_figure_has_its_pictures_and_numbers(drawn, name):
    found, folder = drawn(name)
    pictures = {path.stem for path in folder.glob("*.png")}
    assert pictures == PICTURES[figure_of(name)]
    assert all((folder / f"{picture}.png").stat().st_size > 5_000 for picture in pictures)
    assert "which stands in for" in found.text.splitlines()[0]
    assert "differs: training images" in found.text or "NYUv2" in found.text


def test_a_figure_without_the_weights_it_needs_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "sweep", in_process)
    planned = plan(
        "dfs-fig3", only=["joint", "dfs"], out=tmp_path, stand_in="CIFAR-100=digits", scale="1/100000"
    )
    (joint,) = in_process(
        replace(planned.sweep, entries=planned.sweep.entries[:1]), jobs=1, quiet=True
    ).finished
    (joint / "weights.safetensors").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        UserError, match=r"joint/seed-0 is finished, but its net is needed, and .* is gone; re"
    ):
        reproduce(planned, quiet=True)
    assert sorted(tmp_path.rglob("*")) == before
    shutil.move(joint, tmp_path / "away")
    with pytest.raises(StopIteration):  # checked, and to be trained again
        monkeypatch.setattr(reproduction, "sweep", lambda *_, **__: next(iter(())))
        reproduce(planned, quiet=True)


def test_what_is_drawn_from_records_alone_needs_no_weights():
    for name in FIGURES:
        assert EXPERIMENTS[name].runs_nets == (PICTURES[figure_of(name)] not in ({"convergence"}, {"beta"}))


def test_figures_of_cifar_10_are_those_of_cifar_100_on_other_data():
    for name in FIGURES:
        if name.endswith("cifar10"):
            ten, hundred = EXPERIMENTS[name], EXPERIMENTS[name + "0"]
            named = {"name": "", "data": "", "runs": "", "settings": {}, "differs": (), "report": None}
            assert replace(ten, **named) == replace(hundred, **named)


def test_a_figure_shares_the_runs_of_its_table():
    for name in FIGURES:
        figure = EXPERIMENTS[name]
        if not figure.runs:
            continue
        table = EXPERIMENTS[figure.runs]
        assert (figure.data, figure.net, figure.recipe) == (table.data, table.net, table.recipe)
        assert figure.settings == table.settings
        stand_in = f"{figure.data}={STAND_INS[figure.data]}"
        scale = "1/1000" if name == "dr-mgf-fig10" else 1
        ours, theirs = (plan(each.name, stand_in=stand_in, scale=scale) for each in (figure, table))
        assert ours.sweep.out == theirs.sweep.out
        assert ours.folder == theirs.folder / name  # so that no report is written over another
        folders = {trial.name: trial.recipe for trial in trials(theirs.sweep, (Fraction(1),))}
        common = [t for t in trials(ours.sweep, (Fraction(1),)) if t.name in folders]
        assert common and all(trial.recipe == folders[trial.name] for trial in common)
        assert {entry.net for entry in ours.sweep.entries} <= {entry.net for entry in theirs.sweep.entries}


def test_cosines_of_several_seeds_are_their_mean():
    runs = []
    for value in (0.8, 1.0):
        routes = {"similarity_without_first": {"raw": [[value] * 7] * 7}, "similarity": None}
        runs.append({"routes": routes})
    found = beside_similarity({"runs": runs}).document["beside"]
    assert [each["ours"] for each in found.values()] == pytest.approx([0.9, 0.9, 0.9])


@pytest.mark.slow
def test_published_numbers_are_labelled_and_stand_beside_ours(drawn):
    found, _ = drawn("dr-mgf-fig13")
    assert found.document["beside"]["exits 1 and 7"]["published"] == 0.90
    routes = found.document["runs"][0]["routes"]
    cosine = routes["similarity_without_first"]["raw"][0][6]
    assert found.document["beside"]["exits 1 and 7"]["ours"] == cosine
    assert "published" in found.text
    found, _ = drawn("dfs-fig3")
    assert "dfs (published)" in found.text and "M  79.68\n" in found.text
    curves = {each["label"]: each["points"] for each in found.document["published"]["methods"]}
    assert curves["dfs (published)"][-1] == {"top1": 79.68, "flops": pytest.approx(253.92e6)}
    found, _ = drawn("dfs-fig5-accuracy")
    shares = found.document["share_of_best"]["published"]
    assert shares["0.1"][0] == shares["0.9"][-1] == 1 and shares["0.9"][0] == pytest.approx(17.88 / 22.81)
