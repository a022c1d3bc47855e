import json

import pytest

from offramp.nets import cost, create


def test_json_is_what_the_library_counts(offramp):
    code, out, err = offramp("cost", "--net", "vgg7:width=8", "--classes", 10, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    counted = cost(create("vgg7", num_classes=10, width=8))
    assert document["net"] == "vgg7"
    assert document["arguments"] == {"width": 8}
    assert (document["convention"], document["params"]) == (counted.convention, counted.params)
    assert document["exits"] == [{"params": e.params, "flops": e.flops} for e in counted.exits]


def test_text_holds_raw_counts(offramp):
    code, out, _ = offramp("cost", "--net", "vgg7")
    assert code == 0
    last = cost(create("vgg7")).exits[-1]
    assert out.splitlines()[7].split() == ["6", f"{last.params:,}", f"{last.flops:,}"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "missing: --net"),
        (("--net", "vgg"), "no network 'vgg'"),
        (("--net", "vgg7:"), "write name:key=value"),
        (("--net", "vgg7:width=wide"), "whole number"),
        (("--net", "vgg7", "--classes", "ten"), "--classes"),
    ],
)
def test_mistakes_are_one_line(refused, words, says):
    assert says in refused("cost", *words)
