"""A small share of all recipes and methods trains: what ends well can be opened and has finite numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import examples, works
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, Run, fit
from offramp.methods import METHODS

SETTINGS = {
    "batch_size": [1, 2, 7, 8, 43, 44, 10**9],
    "accumulate": [1, 2, 7, 8],
    "optimizer": ["sgd", "adam", "adamw"],
    "lr": [1e-30, 1e-3, 1.0, 1e3, 1e30],
    "momentum": [0, 0.9, 0.999999],
    "nesterov": [True, False],
    "weight_decay": [0, 1e-3, 1e30],
    "head_lr_factor": [1e-6, 1e6],
    "norm_decay": [None, 0, 1e30],
    "schedule": ["constant", "cosine", "onecycle"],
    "precision": ["fp32", "bf16", "fp16"],
    "channels_last": [None, True, False],
    "clip": [0, 1e-30, 1.0, 1e30],
    "average": [0, 0.5, 0.999],
    "last_epochs": [None, 0, 1, 5],
    "label_smoothing": [0, 0.1, 0.999],
    "class_weights": [None, "balanced", [1, 0, 1], [1e-30, 1, 1e30], [1, 1]],
    "mixup": [0, 1e-3, 1e30],
    "cutmix": [0, 1.0],
    "seed": [0, 2**63 - 1],
    "augment": [None, "none", "crop-flip", "imagenet", "nyuv2", "autoaugment", "x"],
    "checkpoint_every": [0, 1, 3],
    "train_limit": [None, 1, 9],
    "size": [None, 8, 4],
}
recipes = st.lists(st.sampled_from([*SETTINGS]), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: st.sampled_from(SETTINGS[key]) for key in keys})
)
QUICK = [name for name in METHODS if name not in ("dr-mgf-nyu", "meta-gf-nyu")]
methods = st.one_of(
    st.sampled_from(QUICK), st.lists(st.sampled_from(QUICK), min_size=2, max_size=2).map("+".join)
)


def trained(name, settings, out):
    recipe = Recipe(epochs=1, batch_size=8).replace(**settings)
    fit(tiny_net(), tiny_data(), name, recipe, out, quiet=True)
    return Run.open(out, tiny_net())


@pytest.mark.filterwarnings("default")
@examples(15)
@given(methods, recipes)
def test_one_epoch(tmp_path_factory, name, settings):
    run = works(trained, name, settings, tmp_path_factory.mktemp("runs") / "run")
    if run is not None:
        assert all(v.isfinite().all() for v in run.net.state_dict().values() if isinstance(v, torch.Tensor))
        assert "nan" not in run.table() and "inf" not in run.table()
