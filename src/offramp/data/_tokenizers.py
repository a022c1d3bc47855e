"""A tokenizer: from its folder or a Python object, and what tells it from others."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from offramp.data._extra import extra
from offramp.data._tokens import Tokenizer, token_lists
from offramp.errors import UserError, an_object, error_text
from offramp.paths import kind_of, user_path

__all__ = ["digest_of", "limit_of", "load_tokenizer"]

NO_LIMIT = 1_000_000  # transformers' mark of a tokenizer without one is far above
ENOUGH = 1000  # tokens for each of these
PROBES = ("The quick brown fox jumps over the lazy dog.", "a b c 1 2 3", "Ärger, naïve — 東京!")


def load_tokenizer(tokenizer: Any) -> tuple[Tokenizer, str | None]:
    """A tokenizer, and the folder that it lies in, if one was given.

    Args:
        tokenizer: A folder as ``tokenizer.save_pretrained`` of transformers writes it, whose code is not run;
            or an object that is called as those of transformers are.

    Raises:
        UserError: Neither, or the folder holds no tokenizer.
    """
    if not isinstance(tokenizer, (str, os.PathLike)):
        if not callable(tokenizer):
            raise UserError(
                f"tokenizer is {an_object(tokenizer)}, which is not called on texts; wrap it, e.g. in "
                "transformers.PreTrainedTokenizerFast(tokenizer_object=...), or give a folder"
            )
        return tokenizer, None
    folder = user_path(tokenizer)
    if not os.path.isdir(folder):
        lacking = f"{tokenizer} is no folder" if os.path.exists(folder) else f"no such folder: {tokenizer}"
        raise UserError(f"{lacking}; give one that tokenizer.save_pretrained has written, by `tokenizer=...`")
    for path in folder.iterdir():
        if path.exists() and not path.is_file() and not path.is_dir():  # which would be waited for
            raise UserError(
                f"{path} is {kind_of(path.stat().st_mode)}, not a file; remove it from the folder"
            )
    transformers = extra("transformers", "text")
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a dozen unrelated types
        raise UserError(
            f"{tokenizer} holds no tokenizer that transformers reads ({error_text(error)}); give a folder "
            "that tokenizer.save_pretrained has written"
        ) from error
    return found, str(folder.resolve())


def limit_of(tokenizer: Tokenizer, max_tokens: int | None) -> int | None:
    """The most tokens of a text: those asked for, or else what the tokenizer says its net takes."""
    own = getattr(tokenizer, "model_max_length", None)
    if max_tokens is None and isinstance(own, int) and 0 < own < NO_LIMIT:
        return own
    return max_tokens


def digest_of(tokenizer: Tokenizer) -> str:
    """What tells a tokenizer from others: its rules or vocabulary where it shows them, and what it does."""
    content: list[object] = [_ids(tokenizer, text) for text in PROBES]
    content += [
        getattr(tokenizer, name, None) for name in ("padding_side", "truncation_side", "pad_token_id")
    ]
    if hasattr(tokenizer, "backend_tokenizer"):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        content.append(rules | {"truncation": None, "padding": None})  # those of the last call
    elif hasattr(tokenizer, "get_vocab"):
        content.append(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _ids(tokenizer: Tokenizer, text: str) -> object:
    """What a tokenizer makes of a text; None if it fails, as it need not know all letters."""
    try:
        return token_lists(tokenizer, [text], ENOUGH)
    except UserError:
        return None
