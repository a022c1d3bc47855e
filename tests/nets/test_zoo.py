import pytest

from offramp import UserError
from offramp.nets import NETS, create


def test_create_notes_how_the_net_was_built():
    net = create("vgg7", width=2, num_classes=3)
    assert net.spec == {"net": "vgg7", "width": 2, "num_classes": 3}
    again = create(**{"name" if k == "net" else k: v for k, v in net.spec.items()})
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }


def test_an_unknown_name_is_refused_with_the_close_match_and_the_list():
    with pytest.raises(UserError, match=r"'vgg77' \(did you mean 'vgg7'\?\); there are: .*vgg16"):
        create("vgg77")


def test_an_unknown_argument_is_refused_with_the_close_match_and_the_list():
    with pytest.raises(
        UserError, match=r"vgg7 has no argument 'with' \(did you mean 'width'\?\); it has: num_classes"
    ):
        create("vgg7", **{"with": 3})


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
def test_a_size_must_be_a_positive_whole_number(value):
    with pytest.raises(UserError, match="width"):
        create("vgg7", width=value)


def test_names_are_the_builders_own():
    assert all(builder.__name__ == name for name, builder in NETS.items())
