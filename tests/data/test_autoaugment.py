from __future__ import annotations

import collections

import pytest
import torch

from offramp.data import _autoaugment as module
from offramp.data._autoaugment import POLICY, autoaugment, magnitude
from offramp.data._image_ops import OPS


def test_magnitudes():
    assert (
        magnitude("posterize", 7) == 5 and magnitude("posterize", 6) == 5 and magnitude("posterize", 3) == 7
    )
    assert magnitude("rotate", 2) == pytest.approx(20 / 3)
    assert magnitude("translate_x", 9, -1) == pytest.approx(-150 / 331)
    assert magnitude("color", 9, -1) == pytest.approx(0.1) and magnitude("color", 0) == 1
    assert magnitude("solarize", 0) == 256 and magnitude("solarize", 9) == 0
    assert magnitude("shear_y", 8, 1) == pytest.approx(0.3 * 8 / 9)


def test_the_policy_has_25_pairs_of_known_operations():
    assert len(POLICY) == 25
    assert {op for pair in POLICY for op, _, _ in pair} == set(OPS)


def test_each_image_goes_through_one_sub_policy(monkeypatch):
    """With operations that write down what they are asked, frequencies and magnitudes are the policy's."""
    seen: collections.Counter[tuple[str, float]] = collections.Counter()

    def spy(name):
        def op(images, amounts):
            seen.update((name, round(a, 6)) for a in amounts.tolist())
            return images

        return op

    monkeypatch.setattr(module, "OPS", {name: spy(name) for name in OPS})
    count = 50_000
    autoaugment(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), torch.Generator().manual_seed(0))

    expected: collections.Counter[tuple[str, float]] = collections.Counter()
    for pair in POLICY:
        for op, p, index in pair:
            for sign in (-1, 1):
                expected[op, round(magnitude(op, index, sign), 6)] += p / 2
    for key, weight in expected.items():
        assert seen[key] / count == pytest.approx(weight / 25, abs=0.003), key
    assert set(seen) <= set(expected)


def test_operations_of_a_pair_run_in_order_on_the_same_image():
    """At a batch where every image draws its own sub-policy, each result is one of its paths."""
    g = torch.Generator().manual_seed(1)
    image = torch.randint(256, (1, 3, 16, 16), generator=g, dtype=torch.uint8)
    reachable = set()
    for pair in POLICY:
        paths = [image]
        for op, p, index in pair:
            moved = []
            for sign in (-1, 1) if p else ():
                amount = torch.tensor([magnitude(op, index, sign)], dtype=torch.float64)
                moved += [OPS[op](x, amount) for x in paths]
            paths += moved
        reachable |= {path.numpy().tobytes() for path in paths}
    results = autoaugment(image.expand(300, -1, -1, -1), g)
    found = {result.numpy().tobytes() for result in results}
    assert found <= reachable
    assert len(found) > 50


def test_it_is_a_function_of_the_generator():
    images = torch.randint(256, (20, 3, 16, 16), dtype=torch.uint8)
    one, two, other = (autoaugment(images, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
