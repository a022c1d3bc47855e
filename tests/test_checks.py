"""Every option, of a recipe, of a method's part, of a diagnosis, is refused in the same words."""

import pytest

from offramp import Recipe, UserError
from offramp.analysis.settings import Settings
from offramp.methods import method


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Recipe(lr=True), "recipe: lr is True, must be a number above 0 and at most 1e30"),
        (lambda: Recipe(lr=10**400), "recipe: lr is 1000"),
        (lambda: Recipe(epochs=1.0), "recipe: epochs is 1.0, must be a whole number of at least 1"),
        (lambda: Recipe(compile=1), "recipe: compile is 1, must be true or false"),
        (
            lambda: Recipe(schedule="cosin"),
            "recipe: schedule is 'cosin' (did you mean 'cosine'?), "
            "must be constant, cosine, multistep or onecycle",
        ),
        (
            lambda: method("dfs", {"scales": "al"}),
            "scales is 'al' (did you mean 'all'?), must be coarsest or all",
        ),
        (lambda: method("cagrad", {"every": 1.5}), "every is 1.5, must be a whole number of at least 1"),
        (lambda: method("mgda", {"lean": 0}), "lean is 0, must be true or false"),
        (lambda: method("graddrop", {"leak": "all"}), "leak is 'all', must be a number from 0 to 1"),
        (lambda: method("dr-mgf", {"gate": True}), "gate is True, must be own or mixed"),
        (lambda: Settings(batches=0), "batches is 0, must be a whole number of at least 1"),
        (
            lambda: Settings(batches=10**5000),
            "batches is <a number of 16610 bits>, must be a whole number of at least 1 and below ",
        ),
        (lambda: Settings(ratio=True), "ratio is True, must be a number of 1 or more"),
    ],
)
def test_a_refused_value_is_named_with_what_it_must_be(make, says):
    with pytest.raises(UserError) as error:
        make()
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
