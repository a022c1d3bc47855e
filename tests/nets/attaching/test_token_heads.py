"""Heads over tokens: padding has no part in them, and a causal net is read at its last real token."""

import pytest
import torch
import transformers
from torch import Tensor, nn

from offramp import UserError, attach

VOCABULARY, PAD, CLASSES = 30, 0, 3
LENGTHS = (7, 4, 2, 1)
SIZES = {
    "Bert": {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16},
    "DistilBert": {"dim": 8, "n_layers": 3, "n_heads": 2, "hidden_dim": 16},
    "GPT2": {"n_embd": 8, "n_layer": 3, "n_head": 2, "bos_token_id": None, "eos_token_id": None},
}
LAYERS = {"Bert": "bert.encoder.layer", "DistilBert": "distilbert.transformer.layer", "GPT2": "transformer.h"}


def classifier(family: str) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCABULARY, num_labels=CLASSES, pad_token_id=PAD, **SIZES[family]
    )
    return getattr(transformers, f"{family}ForSequenceClassification")(config).double().eval()


def texts(*, left: bool = False) -> dict[str, Tensor]:
    """A padded batch; what stands at padding is no token 0, so that only the mask can tell it."""
    real = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    real = real.flip(1) if left else real
    ids = torch.randint(1, VOCABULARY, real.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids.where(real, torch.tensor(PAD)), "attention_mask": real.long()}


def with_exits(family: str, example: object) -> nn.Module:
    return attach(classifier(family), [f"{LAYERS[family]}.{i}" for i in range(2)], example=example)


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "GPT2"])
def test_padding_does_not_change_any_exit(family):
    batch = texts()
    net = with_exits(family, batch)
    together = net(batch)
    for i, length in enumerate(LENGTHS):
        alone = net({name: tensor[i : i + 1, :length] for name, tensor in batch.items()})
        for exit, (one, all_) in enumerate(zip(alone, together, strict=True), start=1):
            torch.testing.assert_close(all_[i], one[0], rtol=0, atol=1e-12, msg=f"exit {exit}, text {i}")
    assert torch.equal(together[-1], classifier(family)(**batch).logits)


@pytest.mark.parametrize(("family", "last"), [("Bert", False), ("DistilBert", False), ("GPT2", True)])
@pytest.mark.parametrize("named", [True, False])
def test_what_the_heads_read(family, last, named):
    """The mean over real tokens or the last one, by a slow loop; of ids alone by the id of padding."""
    batch = texts()
    net = with_exits(family, batch if named else batch["input_ids"])
    for exit in [*net.exits(batch if named else batch["input_ids"])][:-1]:
        for i, length in enumerate(LENGTHS):
            tokens = exit.trunk[-1][i, :length]
            read = tokens[-1] if last else tokens.sum(0) / length
            torch.testing.assert_close(exit.logits[i], net.heads[exit.number - 1][-1](read))


def test_padding_before_the_text():
    batch = texts(left=True)
    for family, last in (("Bert", False), ("GPT2", True)):
        net = with_exits(family, texts())
        exit = next(net.exits(batch))
        for i, length in enumerate(LENGTHS):
            tokens = exit.trunk[-1][i, -length:]
            read = tokens[-1] if last else tokens.sum(0) / length
            torch.testing.assert_close(exit.logits[i], net.heads[0][-1](read))


def test_what_stands_at_padding_has_no_part_in_the_mean():
    batch = texts()
    net = with_exits("Bert", batch)
    *carried, tokens = next(net.exits(batch)).trunk
    wild = tokens.masked_fill(batch["attention_mask"][..., None] == 0, torch.nan)
    assert torch.equal(net.heads[0]((*carried, wild)), net.heads[0]((*carried, tokens)))


class Reader(nn.Module):
    """A classifier of a user's own: a GRU forwards, both ways, or none."""

    def __init__(self, *, ways: int = 1, padding_idx: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, 6, padding_idx=padding_idx)
        self.first = Recurrent(6, 6 // ways, batch_first=True, bidirectional=ways == 2)
        self.second = Recurrent(6, 6, batch_first=True)
        self.fc = nn.Linear(6, CLASSES)

    def forward(
        self, ids: Tensor, mask: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        return self.fc(self.second(self.first(self.embed(ids))).mean(1))


class Recurrent(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


IDS = texts()["input_ids"]


def test_what_is_not_certain_is_asked_for():
    for example, words in [
        (IDS, ["exit 1", "causal", "attention_mask", 'pool="last"', "heads="]),
        ({"ids": IDS, "mask": IDS}, ["input 'mask' may tell padding", "'attention_mask'", 'pool="mean"']),
        ((IDS, IDS), ["an input without a name", "'attention_mask'"]),
        (IDS[:, :1], ["one token", "two or more"]),
        ({"ids": IDS, "attention_mask": IDS[:, None]}, ["[2, 1, 7]", "not [N, T]", "heads="]),
    ]:
        with pytest.raises(UserError) as refused:
            attach(Reader(), ["first"], example=example)
        line = str(refused.value)
        assert "\n" not in line and all(word in line for word in words), line


@pytest.mark.parametrize("example", [IDS, {"ids": IDS, "mask": IDS}, (IDS, IDS)])
def test_the_answers_are_taken(example):
    x = example if not isinstance(example, dict) else {**example}
    for pool in ("mean", "last"):
        net = attach(Reader(), ["first"], example=example, pool=pool)
        exit = next(net.exits(x))
        tokens = exit.trunk if isinstance(exit.trunk, Tensor) else exit.trunk[-1]
        read = tokens[:, -1] if pool == "last" else tokens.mean(1)
        torch.testing.assert_close(exit.logits, net.heads[0][-1](read))


def test_vectors_in_place_of_ids():
    class Vectors(Reader):
        def forward(self, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
            return self.fc(self.second(self.first(inputs_embeds)).mean(1))

    batch = {"inputs_embeds": torch.randn(4, 7, 6), "attention_mask": texts()["attention_mask"]}
    for ways in (1, 2):
        net = attach(Vectors(ways=ways), ["first"], example=batch)
        tokens = next(net.exits(batch)).trunk[-1]
        for i, length in enumerate(LENGTHS):
            read = tokens[i, length - 1] if ways == 1 else tokens[i, :length].mean(0)
            torch.testing.assert_close(net(batch)[0][i], net.heads[0][-1](read))


def test_an_embedding_tells_the_id_of_padding():
    for ways in (1, 2):
        net = attach(Reader(ways=ways, padding_idx=PAD), ["first"], example=IDS)
        exit = next(net.exits(IDS))
        for i, length in enumerate(LENGTHS):
            tokens = exit.trunk[-1][i, :length]
            read = tokens[-1] if ways == 1 else tokens.mean(0)
            torch.testing.assert_close(exit.logits[i], net.heads[0][-1](read))


def test_words_that_do_not_read_each_other_are_averaged():
    """Vectors of words are no causal net, whatever comes before or behind them."""
    net = attach(Reader(), ["embed"], example=IDS, pool="mean")
    assert isinstance(net.heads[0][-1], nn.Linear)
    batch = texts()
    bert = attach(classifier("Bert"), ["bert.embeddings"], example=batch)
    tokens = next(bert.exits(batch)).trunk[-1]
    torch.testing.assert_close(
        bert(batch)[0][1], bert.heads[0][-1](tokens[1, : LENGTHS[1]].mean(0)), rtol=0, atol=1e-12
    )


def test_a_users_stages_hand_the_mask_on():
    class First(nn.Module):
        def __init__(self, net: Reader, *, hands_on: bool) -> None:
            super().__init__()
            self.embed, self.first, self.hands_on = net.embed, net.first, hands_on

        def forward(self, input_ids: Tensor, attention_mask: Tensor):
            x = self.first(self.embed(input_ids))
            return (attention_mask, x) if self.hands_on else x

    class Second(nn.Module):
        def __init__(self, net: Reader) -> None:
            super().__init__()
            self.second, self.fc = net.second, net.fc

        def forward(self, feature):
            x = feature if isinstance(feature, Tensor) else feature[-1]
            return self.fc(self.second(x).mean(1))

    class Named(Reader):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return super().forward(input_ids)

    net, batch = Named(ways=2), texts()
    attached = attach(net, stages=[First(net, hands_on=True), Second(net)], example=batch)
    tokens = next(attached.exits(batch)).trunk[-1]
    torch.testing.assert_close(attached(batch)[0][2], attached.heads[0][-1](tokens[2, : LENGTHS[2]].mean(0)))
    with pytest.raises(UserError, match=r"padding of its input is not known.*heads="):
        attach(net, stages=[First(net, hands_on=False), Second(net)], example=batch)


def test_a_backbone_that_needs_an_id_of_padding_is_told_where_to_set_it():
    backbone = classifier("GPT2")
    backbone.config.pad_token_id = None
    with pytest.raises(UserError, match=r"padding token.*Set its config\.pad_token_id"):
        attach(backbone, ["transformer.h.0"], example=texts())
