"""Small texts with a class, a tokenizer of words, and small classifiers of transformers with exits."""

import copy
from functools import cache
from pathlib import Path

import pyarrow as pa
import torch
import transformers
from pyarrow import parquet
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from offramp import attach
from offramp.nets import MultiExitNet

WORDS = [f"good{i}" for i in range(8)] + [f"bad{i}" for i in range(8)] + [f"word{i}" for i in range(12)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SIZES = {
    "Bert": {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16},
    "DistilBert": {"dim": 8, "n_layers": 3, "n_heads": 2, "hidden_dim": 16},
    "GPT2": {"n_embd": 8, "n_layer": 3, "n_head": 2, "bos_token_id": None, "eos_token_id": None},
}
LAYERS = {"Bert": "bert.encoder.layer", "DistilBert": "distilbert.transformer.layer", "GPT2": "transformer.h"}


def word_tokenizer(words=WORDS, *, pad: bool = True, **options) -> transformers.PreTrainedTokenizerFast:
    """One token a word, between [CLS] and [SEP]."""
    ids = {word: i for i, word in enumerate([*SPECIAL, *words])}
    plain = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, **names, **({"pad_token": "[PAD]"} if pad else {}), **options
    )


def sentences(count: int, *, seed: int = 0, longest: int = 9) -> tuple[list[str], list[int]]:
    """Texts of 1 to 9 words, of which one tells the class, 0 or 1."""
    draws = torch.Generator().manual_seed(seed)

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=draws))

    texts, labels = [], []
    for i in range(count):
        words = [f"word{draw(12)}" for _ in range(draw(longest))]
        words.insert(draw(len(words) + 1), f"{'good' if i % 2 else 'bad'}{draw(8)}")
        texts.append(" ".join(words))
        labels.append(i % 2)
    return texts, labels


def write_tokenizer(folder: Path, **options) -> str:
    word_tokenizer(**options).save_pretrained(folder)
    return str(folder)


def write_texts(folder: Path, *, text: str = "text", label: str = "label", train: int = 40) -> Path:
    """A folder with train.parquet and test.parquet."""
    folder.mkdir(exist_ok=True)
    for split, count, seed in (("train", train, 0), ("test", 15, 1)):
        texts, labels = sentences(count, seed=seed)
        parquet.write_table(pa.table({text: texts, label: labels}), folder / f"{split}.parquet")
    return folder


def text_net(family: str, *, names=("input_ids", "attention_mask"), **options) -> MultiExitNet:
    """Three exits on a small classifier of transformers."""
    return copy.deepcopy(_text_net(family, names, tuple(options.items())))


@cache
def _text_net(family: str, names: tuple[str, ...], options: tuple[tuple[str, int], ...]) -> MultiExitNet:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": len(SPECIAL) + len(WORDS),
            "num_labels": 2,
            "pad_token_id": 0,
            **SIZES[family],
            **dict(options),
        }
    )
    backbone = getattr(transformers, f"{family}ForSequenceClassification")(config)
    example = dict(word_tokenizer()(["word0 good1", "bad1"], padding=True, return_tensors="pt"))
    example = {name: example.get(name, torch.zeros(2, 4, dtype=torch.long)) for name in names}
    return attach(backbone, [f"{LAYERS[family]}.{i}" for i in range(2)], example=example)
