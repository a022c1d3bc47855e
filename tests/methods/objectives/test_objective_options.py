"""Bad options of objectives: one line that names the option."""

import pytest

from offramp.errors import UserError
from offramp.methods.objectives.distillation import Distillation
from offramp.methods.objectives.divergence import DivergenceDistillation
from offramp.methods.objectives.ramp import Ramp
from offramp.methods.objectives.self_distillation import SelfDistillation, SelfDistillationICCV

TEMPERED = [Distillation, DivergenceDistillation, SelfDistillation, SelfDistillationICCV]


@pytest.mark.parametrize(
    "kind, option, value",
    [
        *((kind, "alpha", value) for kind in TEMPERED for value in (-0.1, 1.1, "half", True, None)),
        *((kind, "temperature", value) for kind in TEMPERED for value in (0, -1, float("inf"), "hot")),
        (Distillation, "alpha", 1),
        (SelfDistillationICCV, "alpha", 1),
        (Distillation, "scale", 0),
        (Distillation, "scale", "10/L"),
        (Distillation, "anneal", 1),
        (DivergenceDistillation, "reduction", "sum"),
        (DivergenceDistillation, "reduction", None),
        (SelfDistillation, "lam", -1),
        (SelfDistillationICCV, "lam", float("nan")),
        (Ramp, "first_epoch", 2),
        (Ramp, "first_epoch", True),
        (Ramp, "weights", [-1, 1]),
    ],
)
def test_bad_options(kind, option, value):
    with pytest.raises(UserError, match=option) as error:
        kind(**{option: value})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 150


def test_a_near_miss_is_named():
    with pytest.raises(UserError, match="did you mean 'batchmean'"):
        DivergenceDistillation(reduction="batch_mean")
