"""Nets whose parts share weights are refused where one part would be trained and the other rest."""

import pytest
from torch import nn

from offramp.errors import UserError
from offramp.methods.regimes.branch_wise import BranchWise
from offramp.methods.regimes.disjoint import Disjoint
from offramp.methods.regimes.mixed import Mixed
from offramp.methods.regimes.ztw import ZeroTimeWaste
from offramp.nets import MultiExitNet


def net_of(*last: nn.Module) -> MultiExitNet:
    return MultiExitNet([nn.Linear(4, 4) for _ in last], [nn.Sequential(nn.ReLU(), each) for each in last])


@pytest.mark.parametrize("regime", [Disjoint(), BranchWise()])
def test_heads_with_one_classifier_are_refused(regime):
    classifier = nn.Linear(4, 3)
    with pytest.raises(UserError, match="share weights"):
        regime.check(net_of(classifier, classifier), "method")
    regime.check(net_of(nn.Linear(4, 3), nn.Linear(4, 3)), "method")


def test_mixed_training_allows_one_classifier():
    classifier = nn.Linear(4, 3)
    Mixed().check(net_of(classifier, classifier), "mixed")


def test_a_cascade_trains_no_layer_of_the_last_head():
    layer, classifiers = nn.Linear(4, 4), [nn.Linear(4, 3) for _ in range(2)]
    tied = [nn.Sequential(layer, nn.ReLU(), each) for each in classifiers]
    with pytest.raises(UserError, match="share weights"):
        ZeroTimeWaste().prepare(net_of(*tied), "ztw", 0)
    ZeroTimeWaste().prepare(net_of(classifiers[0], classifiers[0]), "ztw", 0)  # which is replaced
