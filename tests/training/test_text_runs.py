"""Runs on texts: trained by every kind of method, resumed, opened again and evaluated."""

import pytest
import torch
import transformers
from tiny_texts import (
    LAYERS,
    SPECIAL,
    WORDS,
    sentences,
    text_net,
    word_tokenizer,
    write_texts,
    write_tokenizer,
)

import offramp
from offramp import Recipe, Run, UserError, attach, fit, open_data
from offramp.runs.record import read_record
from offramp.tasks.evaluation import evaluate

RECIPE = Recipe(epochs=1, batch_size=9, lr=0.01, optimizer="adamw", schedule="constant", val_fraction=0.1)
METHODS = ("joint", "dfs", "kd", "ge", "byot", "cagrad")


@pytest.fixture
def folder(tmp_path):
    return write_texts(tmp_path / "reviews")


@pytest.fixture
def tokenizer(tmp_path):
    return write_tokenizer(tmp_path / "tokenizer")


@pytest.mark.parametrize("family", ["Bert", "GPT2"])
def test_every_kind_of_method_takes_a_step(family, folder, tokenizer):
    data = open_data(folder, tokenizer=tokenizer)
    batch = next(data.train.batches(9, transform=lambda batch, generator: batch, device="cpu"))
    weights = text_net(family).state_dict()
    for name in METHODS:
        net = text_net(family)
        net.load_state_dict(weights)
        method = offramp.method(name).bind(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        losses = method.backward(batch)
        assert losses.isfinite().all() and len(losses) == 3
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)
        optimizer.step()
        costs = [exit.flops for exit in offramp.cost(net).exits]
        assert None not in costs and costs == sorted(costs) and costs[0] > 0


@pytest.mark.parametrize("family", ["Bert", "GPT2"])
def test_metrics_do_not_depend_on_the_batch_size(family, folder, tokenizer):
    torch.manual_seed(0)
    run = fit(text_net(family), folder, "dfs", RECIPE.replace(tokenizer=tokenizer), quiet=True)
    found = []
    for size in (1, 7):
        run.record["recipe"]["batch_size"] = size
        found.append(_top1(run.evaluate()))
    assert found[0] == found[1] == _top1(run.result)
    alone = [exit.logits for exit in run.net.exits(_texts(run, [3]))]
    together = [exit.logits[3:4] for exit in run.net.exits(_texts(run, [*range(7)]))]
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)


def _top1(result) -> list[float]:
    return [output.metrics["top1"] for output in result.outputs.values()]


def _texts(run, rows):
    return run.open_data().test.tokens.padded(torch.tensor(rows))


def test_a_run_learns_to_tell_words():
    """Whether a good or a bad word stands in the text is not hard to see."""
    texts, labels = sentences(90)
    data = open_data((texts, labels), tokenizer=word_tokenizer(), val_fraction=0.2)
    recipe = RECIPE.replace(epochs=10, lr=0.03)
    for family in ("Bert", "GPT2"):
        run = fit(text_net(family), data, "joint", recipe, quiet=True)
        assert min(_top1(run.result)) > 90


def test_a_run_notes_how_texts_are_read_and_reads_them_so_again(
    folder, tokenizer, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    recipe = RECIPE.replace(tokenizer="tokenizer", max_tokens=6)
    run = fit(text_net("Bert"), "reviews", "joint", recipe, tmp_path / "run")
    assert "texts have more than 6 tokens" in capsys.readouterr().err
    read = read_record(tmp_path / "run")["data"]["text"]
    assert read["tokenizer"] == tokenizer and read["max_tokens"] == 6
    monkeypatch.chdir("/")
    again = Run.open(tmp_path / "run", text_net("Bert"))
    assert again.evaluate() == run.result
    assert again.evaluate(folder) == run.result
    others = [*zip(*sentences(15, seed=1), strict=True)]
    assert _top1(again.evaluate(others)) == _top1(run.result)


def test_a_stopped_run_goes_on_to_the_same_result(folder, tokenizer, tmp_path):
    recipe = RECIPE.replace(tokenizer=tokenizer, epochs=3)
    whole = fit(text_net("GPT2"), folder, "dfs", recipe, quiet=True)
    fit(text_net("GPT2"), folder, "dfs", recipe.replace(epochs=2), tmp_path / "run", quiet=True)
    longer = fit(text_net("GPT2"), folder, recipe=recipe, out=tmp_path / "run", resume=True, quiet=True)
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(longer.net.state_dict()[name], tensor), name


def test_a_tokenizer_in_python_is_asked_for_again(folder, tokenizer, tmp_path):
    out = tmp_path / "run"
    data = open_data(folder, tokenizer=word_tokenizer())
    run = fit(text_net("Bert"), data, "joint", RECIPE, out, quiet=True)
    opened = Run.open(out, text_net("Bert"))
    with pytest.raises(UserError, match=r"tokenizer in Python.*run.open_data\(tokenizer=.*open_data\("):
        opened.evaluate()
    opened.open_data(word_tokenizer())
    assert opened.evaluate() == run.result and len([*opened.batches("val")]) == 1
    assert opened.evaluate(tokenizer=tokenizer) == run.result
    assert opened.evaluate(folder, tokenizer=word_tokenizer()) == run.result
    with pytest.raises(UserError, match="given is not the one that the run was trained with"):
        opened.evaluate(open_data(folder, tokenizer=word_tokenizer(WORDS[::-1])))
    with pytest.raises(UserError, match="given is not the one that the run was trained with"):
        opened.evaluate(tokenizer=word_tokenizer(WORDS[::-1]))
    data = open_data(folder, tokenizer=word_tokenizer())
    longer = RECIPE.replace(epochs=2)
    assert fit(text_net("Bert"), data, recipe=longer, out=out, resume=True, quiet=True).recipe.epochs == 2
    other = open_data(folder, tokenizer=word_tokenizer(WORDS[::-1]))
    with pytest.raises(UserError, match="holds a run with another data: text"):
        fit(text_net("Bert"), other, recipe=longer, out=out, resume=True, quiet=True)


def test_a_tokenizer_that_has_changed_or_moved(folder, tokenizer, tmp_path):
    out = tmp_path / "run"
    run = fit(text_net("Bert"), folder, "joint", RECIPE.replace(tokenizer=tokenizer), out, quiet=True)
    (tmp_path / "tokenizer").rename(tmp_path / "moved")
    opened = Run.open(out, text_net("Bert"))
    with pytest.raises(UserError, match=r"no such folder: .*tokenizer"):
        opened.evaluate()
    assert opened.evaluate(tokenizer=str(tmp_path / "moved")) == run.result
    moved = RECIPE.replace(tokenizer=str(tmp_path / "moved"), epochs=2)
    assert fit(text_net("Bert"), folder, recipe=moved, out=out, resume=True, quiet=True).recipe.epochs == 2
    write_tokenizer(tmp_path / "tokenizer", words=WORDS[1:])
    with pytest.raises(UserError, match="is not the one that the run was trained with"):
        opened.evaluate(tokenizer=tokenizer)


def test_what_does_not_fit_is_refused_in_one_line(folder, tokenizer, tmp_path):
    images = [(torch.zeros(3, 8, 8), i % 2) for i in range(20)]
    ids = attach(
        transformers.GPT2ForSequenceClassification(text_net("GPT2").stages[0].backbone.config),
        [f"{LAYERS['GPT2']}.0"],
        example=torch.randint(1, len(SPECIAL), (2, 4)),
    )
    vgg = offramp.nets.vgg7(num_classes=2, width=4)
    texts = RECIPE.replace(tokenizer=tokenizer)
    others = write_tokenizer(tmp_path / "others", words=[*map(str, range(99)), *WORDS])
    bert = text_net("Bert")
    for net, data, recipe, words in [
        (bert, folder, RECIPE, ["no column of images", "`tokenizer=...`"]),
        (bert, images, RECIPE, ["attention_mask by name", "images", "`tokenizer=...`"]),
        (vgg, folder, texts, ["no named inputs", "'attention_mask'"]),
        (ids, folder, texts, ["no named inputs", "'attention_mask'"]),
        (text_net("Bert", names=("input_ids", "attention_mask", "token_type_ids")), folder, texts,
         ["reads 'token_type_ids'", "gives input_ids, attention_mask"]),
        (text_net("Bert", max_position_embeddings=6), folder, texts, ["11 tokens", "`max_tokens=...`"]),
        (bert, folder, RECIPE.replace(tokenizer=others), ["cannot take texts", "made for"]),
        (text_net("GPT2", pad_token_id=2), folder, texts,
         ["token 0 for the tokenizer and 2 for the net", "config.pad_token_id"]),
        (bert, folder, texts.replace(augment="crop-flip"), ["augment='crop-flip' is for images"]),
        (bert, folder, texts.replace(mixup=0.5), ["mixup is for images"]),
        (bert, folder, texts.replace(size=8), ["size is for images"]),
        (bert, folder, texts.replace(image_channels=3), ["channels is for images"]),
        (text_net("Bert", num_labels=3), folder, texts, ["3 classes apart", "has 2"]),
    ]:  # fmt: skip
        with pytest.raises(UserError) as refused:
            fit(net, data, "joint", recipe, tmp_path / "run", quiet=True)
        line = str(refused.value)
        assert "\n" not in line and all(word in line for word in words), line
        assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"tokenizer is a Letters.*open_data"):
        RECIPE.replace(tokenizer=type("Letters", (), {})())


def test_a_net_whose_outputs_change_with_padding_is_named(folder, capsys):
    data = open_data(
        folder, tokenizer=word_tokenizer(padding_side="left")
    )  # GPT-2 counts places from the left
    fit(text_net("GPT2"), data, "joint", RECIPE)
    assert "change with its padding" in capsys.readouterr().err
    fit(text_net("Bert"), open_data(folder, tokenizer=word_tokenizer()), "joint", RECIPE)
    assert "change with its padding" not in capsys.readouterr().err


def test_test_texts_that_are_too_long_are_told_before_the_training(tmp_path):
    (texts, labels), long = sentences(20, longest=2), "good1 " * 12
    data = open_data(
        {"train": (texts, labels), "test": ([*texts, long], [*labels, 1])}, tokenizer=word_tokenizer()
    )
    with pytest.raises(UserError, match="cannot take texts of 14 tokens"):
        fit(text_net("Bert", max_position_embeddings=8), data, "joint", RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_said_of_a_net_is_no_part_of_the_data(folder):
    """Two nets read the same opened set, one of them with padding that changes its outputs."""
    data = open_data(folder, tokenizer=word_tokenizer(padding_side="left"))
    run = fit(text_net("GPT2"), data, "joint", RECIPE, quiet=True)
    assert sum("change with its padding" in note for note in run.open_data().notes) == 1
    run.evaluate()
    assert not data.notes and len(run.open_data().notes) == 1


def test_inputs_that_the_net_does_not_read_are_left_out_and_named(folder, tmp_path, capsys):
    names = ["input_ids", "token_type_ids", "attention_mask"]
    data = open_data(folder, tokenizer=word_tokenizer(model_input_names=names))
    fit(text_net("Bert"), data, "joint", RECIPE, tmp_path / "run")
    assert "the net does not read token_type_ids" in capsys.readouterr().err
    again = Run.open(tmp_path / "run", text_net("Bert"), data=data)
    assert {*next(again.batches("val")).inputs} == {"input_ids", "attention_mask"}
    assert data.names == [
        "input_ids",
        "token_type_ids",
        "attention_mask",
    ]


def test_a_process_may_get_no_text_of_the_last_batch(folder):
    """Of 15 texts in shares of 7 the second process has 7 and none."""
    net, data = text_net("Bert"), open_data(folder, tokenizer=word_tokenizer())
    shares = [
        data.test.batches(7, transform=lambda batch, _: batch, device="cpu", rank=rank, world=2)
        for rank in (0, 1)
    ]
    batches = [[*share] for share in shares]
    assert [[*map(len, share)] for share in batches] == [[7, 1], [7, 0]]
    found = [evaluate(net, net.outputs, share).outputs for share in (*batches, [*batches[0], *batches[1]])]
    for name in net.outputs:
        one, other, both = (metrics[name]["top1"] for metrics in found)
        assert both == pytest.approx((8 * one + 7 * other) / 15)


def test_a_policy_is_fitted_on_held_out_texts(folder):
    """They are not normalised, so that the split itself will do."""
    net, data = text_net("GPT2").eval(), open_data(folder, tokenizer=word_tokenizer())
    flops = [exit.flops for exit in offramp.cost(net).exits]
    policy = offramp.calibrate(net, data.val, budget=sum(flops) / 3)
    answer = offramp.Router(net, policy)(texts := data.test.tokens.padded(torch.arange(15)))
    logits = net(texts)
    for i, exit in enumerate(answer.exit.tolist()):
        assert answer.prediction[i] == logits[exit - 1][i].argmax()
