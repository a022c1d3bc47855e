"""The goldens hold only where torch draws the random numbers they were made with."""

import pytest
from fill import normal

DRAWN = {
    "Conv2d.weight:(64, 3, 3, 3)": (
        (64, 3, 3, 3),
        (-1.4258426755136047, 2.177681157148841, 0.7419104044526404),
        -16.746086986982586,
    ),
    "Conv2d.bias:(64,)": (
        (64,),
        (0.17027737685889757, -0.9869344702049564, -0.031569582393404794),
        -5.73149394231768,
    ),
    "BatchNorm2d.running_var:(16,)": (
        (16,),
        (-0.625956962700031, 0.620072090724945, -0.7036818008260094),
        4.227575105533705,
    ),
    "Linear.weight:(100, 128)": (
        (100, 128),
        (-0.9545101447561825, 1.3607867102239362, 1.2064328771855068),
        -85.6954332437862,
    ),
    "proj:Conv2d.weight:(8, 8, 1, 1)": (
        (8, 8, 1, 1),
        (-0.114262034862797, -0.9433321821810801, -0.30753366433305585),
        -0.7839643081245553,
    ),
}


@pytest.mark.parametrize("text", DRAWN)
def test_torch_draws_the_same_numbers(text):
    shape, first, total = DRAWN[text]
    z = normal(text, shape)
    assert z.flatten()[:3].tolist() == pytest.approx(first, abs=1e-12)
    assert float(z.sum()) == pytest.approx(total, abs=1e-9)
