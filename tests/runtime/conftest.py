import numpy as np
import offramp_runtime
import pytest
from tiny_bundles import SIZE, WORDS, ImageNet, WordNet, write_bundle


class Case:
    """A net, its model, and samples of it."""

    def __init__(self, folder, net, **options):
        self.net = net
        self.model = offramp_runtime.load(write_bundle(folder, net, **options), threads=1)

    def samples(self, n, seed=0):
        draws = np.random.default_rng(seed)
        if isinstance(self.net, ImageNet):
            return draws.integers(0, 256, (n, 3, SIZE, SIZE), dtype=np.uint8)
        return {
            "words": draws.integers(0, WORDS, (n, 7)),
            "weights": draws.random((n, 7), dtype=np.float32),
        }

    @staticmethod
    def each(samples):
        """The samples one by one."""
        if isinstance(samples, dict):
            return [dict(zip(samples, rows, strict=True)) for rows in zip(*samples.values(), strict=True)]
        return [*samples]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("images") / "bundle", ImageNet())


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("words") / "bundle", WordNet(), costs=False)


@pytest.fixture(params=["images", "words"])
def case(request):
    return request.getfixturevalue(request.param)
