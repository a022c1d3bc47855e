"""What is proposed where batches cannot be filled or cut is not refused in turn."""

import re

import pytest
from tiny_runs import tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, fit
from offramp.training.batch_size import check_batch_size

TROUBLES = [
    (Recipe(batch_size=128), 24, 1, "24 samples do not fill one batch of 128; take `batch_size=24`"),
    (Recipe(batch_size=64, accumulate=32), 24, 1, "take `batch_size=24, accumulate=12`"),
    (Recipe(batch_size=8, accumulate=5), 99, 2, "has only 4 samples of a batch; take `accumulate=2`"),
    (Recipe(batch_size=9), 99, 2, "batch_size 9 does not divide among 2 processes; take `batch_size=8`"),
    (Recipe(batch_size=3), 99, 4, "take `batch_size=8`"),
    (Recipe(batch_size=64, accumulate=32), 25, 3, "take `batch_size=24, accumulate=4`"),
    (
        Recipe(batch_size=64, accumulate=4),
        3,
        2,
        "3 samples do not fill one batch of 64; give 4 samples or more",
    ),
]


@pytest.mark.parametrize(("recipe", "images", "processes", "says"), TROUBLES)
def test_a_remedy_is_not_refused(recipe, images, processes, says):
    with pytest.raises(UserError) as refused:
        check_batch_size(recipe, range(images), processes)
    assert says in str(refused.value)
    settings = re.search("take `(.*)`", str(refused.value))
    if settings:
        mended = recipe.with_settings(settings[1].split(", "))
        check_batch_size(mended, range(images), processes)
        assert mended.batch_size // processes // mended.accumulate >= 2  # as norm layers need


@pytest.mark.parametrize("images", range(2, 40, 3))
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_whatever_is_proposed_is_taken(images, processes):
    for batch in (1, 2, 7, 16, 50):
        for accumulate in {1, 2, batch // 2 or 1, batch}:
            recipe = Recipe(batch_size=batch, accumulate=min(accumulate, batch))
            try:
                check_batch_size(recipe, range(images), processes)
            except UserError as error:
                if settings := re.search("take `(.*)`", str(error)):
                    check_batch_size(recipe.with_settings(settings[1].split(", ")), range(images), processes)
                else:
                    assert images < 2 * processes


@pytest.mark.parametrize(("train", "batch"), [(9, 64), (9, 8), (3, 3)])
def test_a_net_whose_norm_layers_ask_for_two_images_trains_as_proposed(train, batch):
    net = tiny_net()
    net.heads[0][2] = nn.BatchNorm1d(4)
    recipe = Recipe(epochs=1, batch_size=batch, accumulate=batch)
    data = tiny_data(train=train)
    with pytest.raises(UserError) as refused:
        fit(net, data, "joint", recipe, quiet=True)
    settings = re.search("take `(.*)`", str(refused.value))[1]
    fit(net, data, "joint", recipe.with_settings(settings.split(", ")), quiet=True)
