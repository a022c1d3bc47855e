"""Inputs by name: in the order of the net's own, whatever the caller's, and refused where they do not fit."""

from collections import UserDict

import pytest
import torch
from torch import Tensor, nn

from offramp import UserError, attach

IDS = torch.tensor([[1, 2, 3], [4, 5, 0]])
MASK = (IDS != 0).long()
EXAMPLE = {"input_ids": IDS, "attention_mask": MASK}


class Words(nn.Module):
    """Vectors of words, weighed by a mask whose values are as good as ids: swapped inputs do not fail."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix, self.fc = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.mix(self.embed(input_ids)) * attention_mask[..., None]
        return self.fc(x.sum(1))


@pytest.fixture
def net():
    return attach(Words().eval(), ["embed"], example=EXAMPLE)


def test_the_order_of_names_does_not_matter(net):
    wanted = Words()(**EXAMPLE)
    swapped = {name: EXAMPLE[name] for name in reversed(EXAMPLE)}
    for x in (EXAMPLE, swapped, UserDict(swapped)):
        for logits in (net(x), net(x, keep=True).outputs, [exit.logits for exit in net.exits(x)]):
            assert torch.equal(logits[-1], wanted)
            assert torch.equal(logits[0], net(EXAMPLE)[0])


def test_the_example_may_be_what_a_tokenizer_returns():
    net = attach(Words().eval(), ["embed"], example=UserDict(EXAMPLE))
    assert torch.equal(net(EXAMPLE)[-1], Words()(**EXAMPLE))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (IDS, ["input_ids, attention_mask by name", "Tensor", "a dict"]),
        ({"input_ids": IDS}, ["'attention_mask' is missing"]),
        ({**EXAMPLE, "token_type_ids": MASK}, ["no input 'token_type_ids'", "leave"]),
        ({"input_ids": IDS, "attention_masks": MASK}, ["'attention_masks' (did you mean 'attention_mask'?)"]),
        ({"input_ids": IDS, "attention_mask": [[1, 1]]}, ["'attention_mask' is a list", "return_tensors"]),
        ({"input_ids": IDS[0], "attention_mask": MASK}, ["'input_ids' is torch.int64 [3]", "[N, T]"]),
        ({"input_ids": IDS.float(), "attention_mask": MASK}, ["torch.float32 [2, 3]", "torch.int64"]),
        ({"input_ids": IDS[:1], "attention_mask": MASK}, ["numbers of samples", "'input_ids': 1"]),
        ({"input_ids": IDS, "attention_mask": MASK[:, :1]}, ["numbers of tokens", "[2, 1]"]),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_what_does_not_fit_is_refused_in_one_line(net, x, words, keep):
    with pytest.raises(UserError) as refused:
        net(x, keep=True) if keep else net(x)
    line = str(refused.value)
    assert "\n" not in line and all(word in line for word in words)
