"""What a model answers, held against the net in numpy, sample by sample; and what it refuses."""

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import offramp_runtime
import pytest
from offramp_runtime import InputError
from offramp_runtime._queueing import Pace
from offramp_runtime._route import route
from offramp_runtime._stages import Passage
from tiny_bundles import CLASSES, SIZE, ImageNet, expected, softmax, write_bundle


def check(answer, probabilities, thresholds):
    exits, rows = expected(probabilities, thresholds)
    assert answer.exit.tolist() == exits.tolist()
    np.testing.assert_allclose(answer.probabilities, rows, atol=1e-5)
    assert answer.prediction.tolist() == rows.argmax(-1).tolist()
    np.testing.assert_allclose(answer.confidence, rows.max(-1), atol=1e-5)
    return exits


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_batches_of_any_size_leave_where_the_policy_says(case, n):
    x = case.samples(n)
    probabilities = softmax(case.net.logits(x))
    for answer in (case.model.predict(x), case.model.anytime(x, 1000.0)):
        exits = check(answer, probabilities, case.net.thresholds)
    if n == 64:
        assert {*exits} == {1, 2, 3}


def test_costs_are_the_exits(images, words):
    answer = images.model.predict(images.samples(20))
    assert answer.cost.tolist() == (100 * answer.exit).tolist()
    assert words.model.predict(words.samples(3)).cost is None


@pytest.mark.parametrize(
    "thresholds", [0.0, 2.0, math.inf, 0.5, [0.0, 0.0], [2.0, 0.5], np.array([0.5, 0.6])]
)
def test_other_thresholds_take_the_place_of_the_policy_s(case, thresholds):
    x = case.samples(30, seed=1)
    answer = case.model.predict(x, thresholds=thresholds)
    check(answer, softmax(case.net.logits(x)), [*np.broadcast_to(thresholds, 2).tolist()])


def test_thresholds_may_be_one_for_each_class(tmp_path):
    net = ImageNet()
    per_class = [0.4, 0.5, 0.6, 0.7]
    model = offramp_runtime.load(write_bundle(tmp_path / "bundle", net, [per_class, 0.55]))
    draws = np.random.default_rng(2)
    colours, noise = draws.integers(0, 224, (40, 3, 1, 1)), draws.integers(0, 32, (40, 3, SIZE, SIZE))
    x = (colours + noise).astype(np.uint8)
    probabilities = softmax(net.logits(x))
    assert len({*probabilities[0].argmax(-1)}) > 1
    for answer in (model.predict(x), model.anytime(x, 1000.0)):
        check(answer, probabilities, [per_class, 0.55])
    with model.stream() as stream:
        found = [future.result().exit for future in [stream.submit(image) for image in x]]
    assert found == model.predict(x).exit.tolist()
    check(model.predict(x, thresholds=[0.5, 0.6]), probabilities, [0.5, 0.6])
    own = np.random.default_rng(3).uniform(0.4, 0.7, (2, len(CLASSES)))
    check(model.predict(x, thresholds=own), probabilities, own.astype(np.float32).tolist())
    for image in x:
        step, limit = model.walk(image)[0]
        assert limit == np.float32(per_class[step.prediction])


def test_no_time_is_time_for_the_first_exit(case):
    x = case.samples(9)
    answer = case.model.anytime(x, 0)
    assert {*answer.exit.tolist()} == {1}
    np.testing.assert_allclose(answer.probabilities, softmax(case.net.logits(x))[0], atol=1e-5)


class Slow:
    """A stage of a model that takes seconds for each sample, told apart by when they are sure."""

    def __init__(self, exit, seconds, clock):
        self.exit, self.seconds, self.clock = exit, seconds, clock

    def run(self, arrays, samples):
        self.clock[0] += self.seconds * samples
        shares = np.full((samples, 2), self.exit / 10, np.float32)
        return Passage(shares, np.zeros(samples, int), shares[:, 0], arrays)

    def leaving(self, passage):
        return passage.carried[0] <= self.exit

    def rows(self, carried, rows):
        return [array[rows] for array in carried]


@pytest.mark.parametrize(
    ("end", "last"), [(0, 1), (11.1, 1), (11.3, 2), (19.5, 2), (19.7, 3), (math.inf, 3)]
)  # 4 + 1.2 x 6 seconds, and 4 + 6 + 1.2 x 8: what has run, and what comes by its time and a fifth more
def test_what_does_not_fit_before_the_deadline_is_left_out(end, last, monkeypatch):
    clock, pace, sure_at = [0.0], Pace([1, 3, 7]), np.array([3, 1, 3, 2])
    monkeypatch.setattr("offramp_runtime._route.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    stages = [Slow(exit, seconds, clock) for exit, seconds in enumerate((1, 2, 4), start=1)]
    for until in (math.inf, end):
        clock[0] = 0.0
        found = route(stages, [sure_at], 2, until, pace)
    assert found.exit.tolist() == np.minimum(sure_at, last).tolist()
    np.testing.assert_allclose(found.confidence, found.exit / 10)
    assert clock[0] == [4, 10, 18][last - 1]


def test_a_walk_passes_every_exit_up_to_the_one_that_answers(case):
    x = case.samples(20)
    answer, probabilities = case.model.predict(x), softmax(case.net.logits(x))
    for n, sample in enumerate(case.each(x)):
        steps = case.model.walk(sample)
        assert [step.exit for step, _ in steps] == [*range(1, answer.exit[n] + 1)]
        limits = [*np.float32(case.net.thresholds).tolist(), None]
        assert [limit for _, limit in steps] == limits[: len(steps)]
        for k, (step, _) in enumerate(steps):
            np.testing.assert_allclose(step.probabilities, probabilities[k, n], atol=1e-5)
    assert [limit for _, limit in case.model.walk(sample, threshold=2.0)] == [2.0, 2.0, None]
    assert len(case.model.walk(sample, threshold=0.0)) == 1
    assert case.model.walk(sample, threshold=1e300)[0][1] == math.inf  # beyond float32


def test_numbers_may_be_numpy_s(images):
    x = images.samples(3)
    assert {*images.model.anytime(x, np.float32(0)).exit.tolist()} == {1}
    assert len(images.model.walk(x[0], threshold=np.float32(2))) == 3
    with images.model.stream(max_batch=np.int64(2), max_wait=np.float32(0.01)) as stream:
        options = {
            "threshold": images.model.thresholds[0],
            "timeout": np.float32(100),
            "budget": np.int64(200),
        }
        assert stream.submit(x[0], **options).result().exit in (1, 2)
        assert stream.submit(x[0], threshold=1e300).result().exit == 3
    with pytest.raises(InputError, match="threads is 5000, must be a whole number from 1 to 4096"):
        offramp_runtime.load("nowhere", threads=5000)


def test_threads_may_share_a_model(case):
    x = case.samples(16)
    first = case.model.predict(x)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(case.model.anytime, x, 1000.0) for _ in range(12)]
        calls += [pool.submit(case.model.predict, x) for _ in range(12)]
        assert all(call.result().exit.tolist() == first.exit.tolist() for call in calls)


GOOD = np.zeros((2, 3, SIZE, SIZE), np.uint8)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (GOOD[:0], "no samples in the batch"),
        (GOOD / 255, "as uint8, got float64; give such an array, of images the levels 0 ... 255"),
        (GOOD.astype(np.int64), "as uint8, got int64; give such an array, as by x.astype('uint8')"),
        (GOOD[0], "as [N, 3, 6, 6], got [3, 6, 6]"),
        (GOOD[:, :, :5], "got [2, 3, 5, 6]"),
        (GOOD.transpose(0, 2, 3, 1), "got [2, 6, 6, 3]"),
        (np.uint8(3), "got []"),
        ([[1, 2], [3]], "is no array"),
        (None, "got object"),
        ("images", "got <U6"),
        ({"image": GOOD}, "the model reads images, got 'image'"),
        ({}, "got nothing"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, x, says):
    for ask in (images.model.predict, lambda x: images.model.anytime(x, 1)):
        with pytest.raises(InputError) as refused:
            ask(x)
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": np.full((4, 7), np.nan, np.float32)}, "weights holds NaN"),
        (
            {"weights": np.zeros((4, 7))},
            "as float32, got float64; give such an array, as by x.astype('float32')",
        ),
        ({"words": np.zeros((3, 7), np.int64)}, "have [3, 4] samples"),
        ({"words": np.zeros((4, 0), np.int64)}, "holds nothing"),
        ({"words": np.full((4, 7), 99)}, "cannot run on this input"),
        ({"words": np.zeros((4, 5), np.int64)}, "cannot run on this input"),
        ({"weights": np.full((4, 7), np.inf, np.float32)}, "not numbers"),
        ({"more": np.zeros(4)}, "the model reads words, weights, got"),
    ],
)
def test_what_is_no_batch_of_words_is_refused(words, change, says):
    for ask in (words.model.predict, lambda x: words.model.anytime(x, 100.0)):
        with pytest.raises(InputError) as refused:
            ask({**words.samples(4), **change})
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)


def test_several_inputs_come_by_name(words):
    with pytest.raises(InputError, match="give a dict of arrays by these names"):
        words.model.predict(np.zeros((1, 7), np.int64))


@pytest.mark.parametrize(
    "thresholds",
    ["high", "0.5", True, [True, False], [0.1], [0.1, 0.2, 0.3], np.nan, [[0.1, 0.2]], object(), [[], []]],
)
def test_thresholds_are_numbers_for_the_exits(images, thresholds):
    with pytest.raises(InputError, match="threshold"):
        images.model.predict(GOOD, thresholds=thresholds)


@pytest.mark.parametrize("deadline", [-1, math.nan, math.inf, "soon", None, True, 10**400])
def test_a_deadline_is_a_number_of_seconds(images, deadline):
    with pytest.raises(InputError, match="deadline is"):
        images.model.anytime(GOOD, deadline)
