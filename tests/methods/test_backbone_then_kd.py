"""`backbone-then-kd` is the composition of mixed training and distillation that was measured."""

import pytest
import torch
from tiny_runs import tiny_data

from offramp import Recipe, fit, method
from offramp.nets import vgg7

MEASURED = {"backbone_share": 0.25, "alpha": [0.5, 0.5, 0.5, 0.5, 0, 0]}


def weights(name: str, options: dict) -> dict[str, torch.Tensor]:
    """After four epochs, of which one is the backbone's."""
    torch.manual_seed(0)
    net = vgg7(num_classes=3, width=2)
    net.input_size = (3, 8, 8)
    recipe = Recipe(epochs=4, batch_size=8, lr=0.05, augment="none", options=options)
    return fit(net, tiny_data(), name, recipe, quiet=True).net.state_dict()


def test_on_six_exits_it_is_what_was_measured():
    found = weights("backbone-then-kd", {})
    torch.testing.assert_close(found, weights("mixed+kd", MEASURED), rtol=0, atol=0)
    for other in ("mixed", "kd", "mixed+kd"):
        assert not torch.equal(found["heads.0.2.weight"], weights(other, {})["heads.0.2.weight"])


@pytest.mark.parametrize(("exits", "taught"), [(1, 0), (2, 0), (3, 1), (6, 4), (7, 5)])
def test_the_last_two_exits_have_no_teacher(exits, taught):
    objective = method("backbone-then-kd", {"alpha": 0.3}).objective
    assert objective._shares(exits) == [0.3] * taught + [0.0] * (exits - taught)
