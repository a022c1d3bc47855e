import math

import numpy as np
import pytest
import torch

from offramp import UserError
from offramp.analysis import common_routes, likeness, null_similarities, similarity
from offramp.analysis.routes import strongest


class Route:
    def __init__(self, owners, importance):
        self.owners, self.importance = owners, importance
        self.scale = torch.ones_like(importance)


def routes():
    draw = torch.Generator().manual_seed(0)
    shapes = {"a": (4, 3), "b": (5, 4), "c": (6, 5)}
    owners = {"a": (0, 1, 2), "b": (0, 1, 2), "c": (1, 2)}
    return {
        name: Route(owners[name], torch.randn(len(owners[name]), *shape, generator=draw))
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("skip_first", [False, True])
def test_similarity_is_the_cosine_of_joined_vectors(skip_first, centred):
    found = routes()
    common = common_routes(found, 3, skip_first=skip_first)
    assert list(common) == ["b"] if skip_first else ["a", "b"]
    vectors = []
    for k in range(3):
        parts = [np.abs(common[name].importance[k].double().numpy()).ravel() for name in common]
        vectors.append(np.concatenate([part - part.mean() * centred for part in parts]))
    expected = [[a @ b / math.sqrt(a @ a) / math.sqrt(b @ b) for b in vectors] for a in vectors]
    np.testing.assert_allclose(similarity(common, centred=centred).numpy(), expected, rtol=1e-10)


def test_chance_gives_what_theory_says():
    # of independent positive entries the cosine tends to E[x]^2 / E[x^2]
    chi9 = (math.sqrt(2) * math.gamma(5) / math.gamma(4.5)) ** 2 / 9
    found = null_similarities([(64, 64), (128, 64)])
    assert found["half-normal"] == pytest.approx(2 / math.pi, abs=0.004)
    assert found["uniform"] == pytest.approx(0.75, abs=0.004)
    assert found["kernel norms"] == pytest.approx(chi9, abs=0.002)
    assert chi9 == pytest.approx(0.947, abs=0.001)
    assert found == null_similarities([(64, 64), (128, 64)])
    assert null_similarities([(64, 64)], side=1)["kernel norms"] == pytest.approx(2 / math.pi, abs=0.01)


def test_independent_routes_are_alike_by_their_mean_only():
    draw = torch.Generator().manual_seed(1)
    found = likeness({"w": Route((0, 1), torch.rand(2, 64, 64, generator=draw))})
    assert found.raw[0, 1].item() == pytest.approx(found.chance["uniform"], abs=0.02)
    assert abs(found.centred[0, 1].item()) < 0.05
    assert found.parameters == ("w",)


def test_nothing_in_common():
    with pytest.raises(UserError, match="no routed parameter is owned by all 4 outputs"):
        common_routes(routes(), 4)
    with pytest.raises(UserError, match="no routed parameter but the first"):
        common_routes({"a": routes()["a"]}, 3, skip_first=True)


def test_the_strongest_connections_of_every_row():
    importance = torch.rand(3, 6, 20, generator=torch.Generator().manual_seed(2))
    found = strongest(importance, top=0.2)
    for rows, masks in zip(importance.tolist(), found.tolist(), strict=True):
        for row, mask in zip(rows, masks, strict=True):
            best = sorted(range(20), key=lambda j: -row[j])[:4]
            assert mask == [j in best for j in range(20)]
    assert strongest(torch.zeros(2, 3)).sum(-1).tolist() == [1, 1]  # at least one for each row
    assert strongest(torch.tensor([[-3.0, 1.0, 2.0]]), top=0.5).tolist() == [[True, False, True]]
