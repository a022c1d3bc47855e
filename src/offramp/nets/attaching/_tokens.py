"""Tokens: which of them are real and not padding, and the pooling over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.errors import UserError, shown
from offramp.nets.attaching._parts import Parts
from offramp.unchanged import unchanged

__all__ = ["POOLS", "FirstToken", "LastToken", "TokenMean", "Tokens", "token_pools", "tokens_of"]

POOLS = ("mean", "last", "class")
MASK = "attention_mask"  # what transformers calls it: 1 at real tokens, 0 at padding
REMEDY = (
    'say what the heads read by `pool="mean"` (all tokens) or `pool="last"` (the last one), or give `heads=`'
)


@dataclass(frozen=True)
class Tokens:
    """What a sample of tokens says of its padding.

    Attributes:
        read: The tokens: their ids, ``[N, T]``, or vectors, ``[N, T, C]``.
        padding: The Tensor of the sample that tells padding: a mask or the ids; None if none does.
        pad: The id of padding, where the ids tell; None where a mask does, which is 0 at padding.
        doubt: Why it is not certain what tells padding; empty if it is.
    """

    read: Tensor
    padding: Tensor | None = None
    pad: int | None = None
    doubt: str = ""


def tokens_of(backbone: nn.Module, sample: Any) -> Tokens | None:
    """The tokens that a backbone reads; None if it reads no token ids ``[N, T]``, and no mask.

    Padding is what ``attention_mask`` says, or else ``config.pad_token_id`` or the ``padding_idx`` of the
    embedding.

    Args:
        backbone: The backbone.
        sample: An input for it.
    """
    named = dict(sample) if isinstance(sample, Mapping) else {}
    inputs = [*named.values()] if named else [*sample] if isinstance(sample, tuple) else [sample]
    rows = [x for x in inputs if isinstance(x, Tensor) and x.ndim == 2]
    whole = [x for x in rows if not x.is_floating_point() and x.dtype != torch.bool]
    mask = named.get(MASK)
    ids = named.get("input_ids", next((x for x in whole if x is not mask), None))
    if ids is None and mask is not None:
        ids = next((x for x in inputs if x is not mask and x.shape[:2] == mask.shape), None)
    if ids is None:
        return None
    tokens = Tokens(ids)
    if mask is not None and mask.shape == ids.shape[:2]:
        return replace(tokens, padding=mask)
    if mask is not None:
        return replace(tokens, doubt=f"{shown(MASK)} is {[*mask.shape]}, and not [N, T] as the tokens are;")
    others = [x for x in rows if x is not ids and x.shape == ids.shape]
    unclear = [name for name, x in named.items() if "mask" in name and x.shape[:1] == ids.shape[:1]]
    if unclear or (others and not named):
        source = f"input {shown(unclear[0])}" if unclear else "an input without a name"
        return replace(
            tokens, doubt=f"{source} may tell padding; name it {shown(MASK)} if it does, 0 at padding, or"
        )
    pads = _pad_ids(backbone)
    if len(pads) > 1:
        return replace(tokens, doubt=f"padding may be token {' or '.join(map(str, pads))}; set the right one "
                                    "as the backbone's config.pad_token_id, or")  # fmt: skip
    return replace(tokens, padding=ids, pad=pads[0]) if pads else tokens


def _pad_ids(backbone: nn.Module) -> list[int]:
    """What the backbone takes for the id of padding."""
    config = getattr(getattr(backbone, "config", None), "pad_token_id", None)
    if config is not None:
        return [config]
    layers = (module for module in backbone.modules() if isinstance(module, nn.Embedding))
    return sorted({layer.padding_idx for layer in layers if layer.padding_idx is not None})


class _OverTokens(nn.Module):
    """Pooling over the tokens of a feature.

    Args:
        axis: The axis of the tokens, 1 of ``[N, T, C]`` or 2 of ``[N, C, T]``.
        place: Which Tensor of the feature tells padding, from 0; None: all tokens are real.
        pad: The id of padding where that Tensor has ids; None where it is a mask, which is 0 at padding.
    """

    def __init__(self, axis: int, place: int | None, pad: int | None) -> None:
        super().__init__()
        self.axis, self.place, self.pad = axis, place, pad

    def _opened(self, feature: Any) -> tuple[Tensor, Tensor]:
        """The tokens, and whether each of them is real: bool ``[N, T]``."""
        x = feature if isinstance(feature, Tensor) else feature[-1]
        if self.place is None:
            return x, torch.ones(x.shape[0], x.shape[self.axis], dtype=torch.bool, device=x.device)
        return x, feature[self.place] != (0 if self.pad is None else self.pad)


class TokenMean(_OverTokens):
    """The mean over the real tokens: ``[N, C]``. What padding holds has no part in it."""

    def forward(self, feature: Any) -> Tensor:
        x, real = self._opened(feature)
        real = real.unsqueeze(3 - self.axis)
        return x.masked_fill(~real, 0).sum(self.axis) / real.sum(self.axis).clamp(min=1)


class LastToken(_OverTokens):
    """The last real token: ``[N, C]``, as transformers' causal classifiers read it."""

    def forward(self, feature: Any) -> Tensor:
        x, real = self._opened(feature)
        last = (torch.arange(real.shape[1], device=x.device) * real).argmax(1)
        return x.movedim(self.axis, 1)[torch.arange(x.shape[0], device=x.device), last]


class FirstToken(nn.Module):
    """The first token, ``[N, C]``: the class token of a vision transformer or BERT."""

    def forward(self, feature: Any) -> Tensor:
        return (feature if isinstance(feature, Tensor) else feature[-1])[:, 0]


def token_pools(
    parts: Parts, sample: Any, tokens: Tokens | None, axes: Sequence[int], how: Sequence[str | None]
) -> list[nn.Module | None]:
    """How the head of each exit but the last pools over tokens; None where it pools as over anything else.

    Args:
        parts: The backbone, which is left as it was.
        sample: An input for it.
        tokens: The tokens in the sample, if it has any.
        axes: The axis of the channels of each exit's feature.
        how: For each of them one of ``POOLS``. None: the last token if the net is causal (a token's features
            depend on those before it, and not on those behind it), else the mean.

    Raises:
        UserError: None is given, and it is not certain which tokens are real, or that all are; or there are
            no tokens to pick one of.
    """
    if tokens is None and not {"last", "class"} & {*how}:
        return [None] * len(axes)
    features = _features(parts, sample)[: len(axes)]
    causal = None in how and tokens is not None and _is_causal(parts, sample, tokens, axes)
    pools: list[nn.Module | None] = []
    for exit, (feature, axis, word) in enumerate(zip(features, axes, how, strict=True), start=1):
        x = feature if isinstance(feature, Tensor) else feature[-1]
        if word in ("last", "class") and (x.ndim != 3 or (word == "class" and axis != 2)):
            raise UserError(
                f"the feature of exit {exit} is {[*x.shape]}, and pool={shown(word)} picks one of tokens "
                "[N, T, C]; give pool='mean'"
            )
        if word == "class":
            pools.append(FirstToken())
            continue
        place = None if tokens is None else _place(feature, tokens, axis)
        if word is None and tokens is not None and x.ndim > 2 and (doubt := _doubt(tokens, place, causal)):
            raise UserError(f"what the head of exit {exit} reads, {[*x.shape]}, is not certain: {doubt}")
        kind = LastToken if word == "last" or (word is None and causal) else TokenMean
        plain = x.ndim != 3 or (kind is TokenMean and place is None)
        pools.append(None if plain else kind(3 - axis, place, None if tokens is None else tokens.pad))
    return pools


def _place(feature: Any, tokens: Tokens, axis: int) -> int | None:
    """Where a feature ``[N, T, C]`` or ``[N, C, T]`` carries what tells padding, if it does."""
    if isinstance(feature, Tensor) or feature[-1].ndim != 3:
        return None
    carried = [i for i, tensor in enumerate(feature) if tensor is tokens.padding]
    return carried[0] if carried and feature[-1].shape[3 - axis] == tokens.read.shape[1] else None


def _doubt(tokens: Tokens, place: int | None, causal: bool) -> str:
    if tokens.doubt:
        return f"{tokens.doubt} {REMEDY}"
    if tokens.padding is not None and place is None:
        return f"the padding of its input is not known for it, token by token; {REMEDY}"
    if tokens.read.shape[1] < 2:
        return "one token does not tell how tokens read each other; give an example of two or more"
    if causal and place is None:
        return (
            f"the net is causal, and nothing tells where its texts end; give {shown(MASK)} among its inputs, "
            f"or set its config.pad_token_id, or {REMEDY}"
        )
    return ""


def _is_causal(parts: Parts, sample: Any, tokens: Tokens, axes: Sequence[int]) -> bool:
    """Whether tokens depend on those before them and on none behind them, at all cuts and behind the last."""

    def changed(place: int) -> Tensor:
        read = tokens.read.clone()
        read[:, place] = (read[:, place] - 1).abs()  # another token, in any vocabulary
        return read

    whole = _features(parts, _with(sample, tokens, tokens.read))
    last, first = (_features(parts, _with(sample, tokens, changed(place))) for place in (-1, 0))
    length, forward, backward = tokens.read.shape[1], False, False
    for axis, *runs in zip([*axes, 2], whole, last, first, strict=True):
        x, of_last, of_first = (run if isinstance(run, Tensor) else run[-1] for run in runs)
        if x.ndim == 3 and x.shape[3 - axis] == length:
            backward |= not torch.equal(
                x.narrow(3 - axis, 0, length - 1), of_last.narrow(3 - axis, 0, length - 1)
            )
            forward |= not torch.equal(
                x.narrow(3 - axis, 1, length - 1), of_first.narrow(3 - axis, 1, length - 1)
            )
    return forward and not backward


def _with(sample: Any, tokens: Tokens, read: Tensor) -> Any:
    """The sample with other tokens, all of them real."""

    def swapped(tensor: Tensor) -> Tensor:
        if tensor is tokens.read:
            return read
        return torch.ones_like(tensor) if tensor is tokens.padding else tensor

    return pytree.tree_map_only(Tensor, swapped, sample)


def _features(parts: Parts, x: Any) -> list[Any]:
    """What every stage returns, in eval mode."""
    features = []
    with unchanged(*parts.stages), torch.no_grad():
        for stage in parts.stages:
            x = stage.eval()(x)
            features.append(x)
    return features
