"""Training samples that are held out for the weights of losses: who they are, and that none is trained on."""

import pytest
import torch
from several_sets import two_sets, two_tasks
from tiny_runs import rows, tiny_data, tiny_net

from offramp import Recipe, UserError, fit
from offramp.data import JointData, Split
from offramp.data.part import divided
from offramp.reports.runs import read_run
from offramp.training._feed import OUTER

RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, augment="crop-flip", checkpoint_every=2)


class Noting(Split):
    """Notes which samples are read in which epoch, and may stop the process before a batch of training."""

    stop_at = None

    def _read(self, plan, *, key, **how):
        given = super()._read(plan, key=key, **how)
        for number, (index, arrays) in enumerate(zip(plan, given, strict=True)):
            if (key[1], number) == self.stop_at:
                raise KeyError("stop")
            self.read.append((key[1], index))
            yield arrays


def noting(stop_at=None):
    data = tiny_data(split=Noting)
    data.train.read, data.train.stop_at = [], stop_at
    return data


def test_they_are_not_trained_on_and_the_others_are_not_looked_at():
    data = noting()
    fit(tiny_net(), data, "hdkd", RECIPE.replace(options={"held_out": 0.2}), quiet=True)
    trained = {n for epoch, index in data.train.read if epoch < RECIPE.epochs for n in index.tolist()}
    seen = {n for epoch, index in data.train.read if epoch >= OUTER for n in index.tolist()}
    assert not trained & seen
    assert len(seen) == 9 and 32 <= len(trained) <= 34  # a fifth of 43, and four batches of the rest


def test_an_epoch_costs_the_samples_that_it_trains_on(tmp_path):
    read = {}
    for name in ("joint", "hdkd"):
        data, options = noting(), {"held_out": 0.2} if name == "hdkd" else {}
        fit(tiny_net(), data, name, RECIPE.replace(options=options), tmp_path / name, quiet=True)
        read[name] = sum(len(index) for epoch, index in data.train.read if epoch < RECIPE.epochs)
    steps = (2 + 2 * 5) / 3  # 2 F + 5 B of each step, in those of joint training
    expected = RECIPE.epochs * steps * read["hdkd"] / read["joint"]
    assert float(rows(tmp_path / "hdkd")[-1]["passes"]) == pytest.approx(expected)
    assert read_run(tmp_path / "hdkd").joint_epochs == pytest.approx(expected)


def test_a_part_serves_its_own_samples_and_keeps_the_proportions():
    data = tiny_data(train=200)
    rest, held = divided(data.train, 0.25, seed=3)
    assert (len(rest), len(held)) == (150, 50)
    assert sorted([*rest.rows.tolist(), *held.rows.tolist()]) == [*range(200)]
    for part in (rest, held):
        served = list(part.batches(10, transform=lambda b, _: b, device="cpu"))
        images = torch.cat([b.inputs for b in served])
        assert torch.equal(images, data.train.images[part.rows])
        assert torch.equal(torch.cat([b.targets["label"] for b in served]), part.labels)
        shares = torch.stack([(p.labels == c).double().mean() for p in (part, data.train) for c in range(3)])
        assert (shares[:3] - shares[3:]).abs().max() <= 1 / len(part)
    again = divided(tiny_data(train=200).train, 0.25, seed=3)[1]
    assert torch.equal(held.rows, again.rows)
    assert not torch.equal(held.rows, divided(data.train, 0.25, seed=4)[1].rows)


@pytest.mark.parametrize("method", ["hdkd", "dfs+auto-lambda", "wpn"])
def test_a_stopped_run_goes_on_to_the_bit(method, tmp_path):
    recipe = RECIPE.replace(options={"held_out": 0.2, "every": 2})
    whole = fit(tiny_net(), tiny_data(), method, recipe, tmp_path / "whole", quiet=True)
    with pytest.raises(KeyError):
        fit(tiny_net(), noting((1, 3)), method, recipe, tmp_path / "cut", quiet=True)
    cut = fit(tiny_net(seed=9), tiny_data(), method, None, tmp_path / "cut", resume=True, quiet=True)
    torch.testing.assert_close(dict(cut.net.state_dict()), dict(whole.net.state_dict()), rtol=0, atol=0)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_of_several_sets_each_holds_its_share_out():
    data = JointData(two_sets())
    rest, held = divided(data.train, 0.3, seed=0)
    assert {name: len(part) for name, part in held.parts.items()} == {"kind": 9, "box": 5}
    assert {name: len(part) for name, part in rest.parts.items()} == {"kind": 21, "box": 12}
    recipe = Recipe(epochs=1, batch_size=4, lr=0.05, options={"held_out": 0.3, "weight_lr": 0.01})
    fit(two_tasks(), two_sets(), "auto-lambda", recipe, quiet=True)


@pytest.mark.parametrize(
    ("held_out", "batch_size", "words"),
    [
        (0.01, 8, r"held_out=0.01 of 43 samples is 1, and each process needs two"),
        (0.9, 8, r"held_out=0.9 of 43 samples: 4 samples do not fill one batch of 8; take `batch_size=4`"),
    ],
)
def test_too_few_are_refused_before_anything_is_written(held_out, batch_size, words, tmp_path):
    recipe = RECIPE.replace(batch_size=batch_size, options={"held_out": held_out})
    with pytest.raises(UserError, match=words):
        fit(tiny_net(), tiny_data(), "hdkd", recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_halves_of_one_sample_are_refused(tmp_path):
    for batch_size, norm in ((1, False), (2, True)):
        recipe = RECIPE.replace(batch_size=batch_size)
        net = tiny_net(norm=norm)
        if norm:
            net.heads[0][2] = torch.nn.BatchNorm1d(4)
        with pytest.raises(UserError, match="take `batch_size=4`"):
            fit(net, tiny_data(), "wpn", recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
