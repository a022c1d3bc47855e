"""The model card of a bundle: what it is, what it does, how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.exits import Policy
from offramp.reports.policy_text import policy_text
from offramp.runs import Run
from offramp.text_table import count

__all__ = ["model_card"]

NAMED = 20  # classes; the manifest has all
LEVELS = "Images are levels 0 ... 255, channels first; the graph normalises them."
CARD = """\
# {net}, leaving early

A net of {exits} exits that tells {count} classes apart, as an ONNX graph in which samples leave at the first
exit that is sure of them. Classes: {classes}
{trained}{int8}
## Inputs and outputs

{inputs}
- `thresholds`: float32 `{thresholds}`, of each exit but the last, in order: those of `policy.json`, or
  others: the higher, the later samples leave.

{reading}

Outputs, in the order of the batch: `probabilities` of all classes, the `exit` at which the sample left, and
its `confidence` there ({confidence}).

## Use

```python
import offramp_runtime

model = offramp_runtime.load("path/to/this/folder")
answer = model.predict(inputs)  # prediction, exit, confidence and probabilities of each sample
```

`offramp-runtime predict` and `offramp-runtime serve` take the folder too, and `model.onnx` runs in any ONNX
Runtime. `program.pt2` (`torch.export.load`) is the whole net in torch, in float32, with the logits of all
exits.
`sha256sum -c SHA256SUMS` checks the files.

## When samples leave

```
{policy}
```
"""


def model_card(manifest: Mapping[str, Any], policy: Policy, run: Run | None) -> str:
    """The card, as Markdown.

    Args:
        manifest: The content of ``manifest.json``.
        policy: The policy.
        run: The run that trained the net, if there is one.
    """
    classes = manifest["classes"]
    levels = manifest["inputs"][0]["dtype"] == "uint8"
    inputs = []
    for each in manifest["inputs"]:
        sizes = ", ".join(["n", *(str(size or "any") for size in each["shape"])])
        inputs.append(f"- `{each['name']}`: {each['dtype']} `[{sizes}]`")
    return CARD.format(
        net=manifest["net"],
        exits=policy.num_exits,
        count=len(classes),
        classes=", ".join(classes[:NAMED]) + (", ..." if len(classes) > NAMED else ""),
        inputs="\n".join(inputs),
        thresholds=manifest["thresholds"],
        reading=LEVELS if levels else "Inputs are what the net read in training.",
        confidence=manifest["confidence"],
        policy=policy_text(policy),
        int8="" if "int8" not in manifest else _in_int8(manifest["int8"]),
        trained="" if run is None else _trained(run),
    )


def _trained(run: Run) -> str:
    """Where the weights come from, and what each exit reached on test data."""
    data, outputs = run.record["data"], run.result.outputs
    primary = next(iter(outputs.values())).primary
    rows = [f"| {name} | {each.value:.2f} | {count(each.flops)} |" for name, each in outputs.items()]
    return "\n".join(
        [
            "",
            f"It was trained by `{run.record['method']}` on {data['name']}: {data['train']} samples, "
            f"{run.recipe.epochs} epochs.",
            "",
            f"| output | {primary} on test data | FLOPs |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _in_int8(figures: Mapping[str, Any]) -> str:
    """What 8 bits cost at each exit."""
    columns = zip(figures["top1_fp32"], figures["top1_int8"], figures["agreement"], strict=True)
    rows = [
        f"| {exit} | {floats:.2f} | {whole:.2f} | {same:.2f} |"
        for exit, (floats, whole, same) in enumerate(columns, start=1)
    ]
    return "\n".join(
        [
            "",
            "It computes in 8 bits. In percent of the "
            f"{figures['samples']} validation samples, on which the thresholds were fitted:",
            "",
            "| exit | top-1 in fp32 | top-1 in int8 | same prediction |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
