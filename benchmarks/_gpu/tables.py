"""The results of ``benchmarks/gpu.py`` as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _gpu.parts import parts

__all__ = ["tables"]

Result = dict[str, Any]
INFERENCE = {  # key of a row: head of its column
    "flops_ratio": "FLOPs",
    "router": "router",
    "router_of_flops_ratio": "of FLOPs",
    "limit": "limit",
    "router_time_over_limit": "router / limit time",
    "all exits": "all exits",
}


def tables(folder: Path) -> str:
    """What lies in a folder: the machine, the checks, and a table of each measurement."""
    found: dict[str, Result] = {}
    errors: dict[str, str] = {}
    for part in parts(small=False):
        done, failed = folder / f"{part.name}.json", folder / f"{part.name}.failed.json"
        if done.exists():
            found[part.name] = json.loads(done.read_text())
        elif failed.exists():
            record = json.loads(failed.read_text())
            errors[part.name] = record["error"]
            found[part.name] = record["partial"] or {}
    machines = dict.fromkeys(_machine(r["machine"]) for r in found.values() if r)
    sections = ["\n".join(machines)] if machines else ["There are no results here."]
    checked = {name: result["cases"] for name, result in found.items() if "cases" in result}
    if checked:
        sections += ["## Checks against the CPU", _checks(checked)]
    for name, result in found.items():
        for title, table in _measured(name, result):
            sections += [f"## {title}", f"`{_command(name, result)}`", table]
    if errors:
        lines = (line for name, error in errors.items() for line in _failed(name, error, found[name]))
        sections += ["## Not done", "\n".join(lines)]
    return "\n\n".join(sections) + "\n"


def _machine(of: Result) -> str:
    gpu = of["gpu"]
    device = f"{gpu['name']}, {gpu['GiB']} GiB, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}" if gpu else "no GPU"
    return f"{device}; {of['cores']} cores of {of['processor']}; torch {of['torch']}, Python {of['python']}."


def _command(name: str, result: Result) -> str:
    """The part's command as the driver runs it there."""
    part = next(p for p in parts(small=result["settings"]["device"] == "cpu") if p.name == name)
    words = (f"'{word}'" if " " in word else word for word in part.words)
    return f"python benchmarks/{' '.join(words)} --device {result['settings']['device']}"


def _checks(checked: dict[str, dict[str, Result]]) -> str:
    rows = []
    for name, cases in checked.items():
        findings = [
            (value / bound, value, bound)
            for case in cases.values()
            for value, bound in (v for v in case.values() if isinstance(v, list))
            if bound
        ]
        worst = "{1:.0e} of {2:.0e}".format(*max(findings)) if findings else "equal"
        bad = [case for case, found in cases.items() if not found["passed"]]
        rows.append((name, str(len(cases)), ", ".join(bad) or "none", worst))
    return _table(("check", "cases", "failed", "nearest to its bound"), rows)


def _failed(name: str, error: str, found: Result) -> Iterable[str]:
    """What went wrong in a part, and in each case of a check."""
    yield f"- {name}: {error}"
    for case, of in found.get("cases", {}).items():
        if not of["passed"]:
            beyond = (
                f"{key} {value:.2g}, at most {bound:.2g}"
                for key, (value, bound) in ((k, v) for k, v in of.items() if isinstance(v, list))
                if not value <= bound  # NaN is beyond every bound
            )
            yield f"  - {case}: {of.get('error') or ', '.join(beyond)}"


def _measured(name: str, result: Result) -> Iterable[tuple[str, str]]:
    """Title and table of each thing that a part measured."""
    settings = result.get("settings", {})
    if "rows" in result:
        compiled = "compiled, " if settings["compile"] else ""
        nets = dict.fromkeys(row["net"] for row in result["rows"])
        for net in nets:
            mine = [row for row in result["rows"] if row["net"] == net]
            yield (
                f"A DFS step of {net} against the joint step, {compiled}batch {settings['batch']}",
                _steps(mine),
            )
    if "nets" in result:
        of = f"{settings['dtype']}, batch {settings['batch']}"
        times = {net: kinds["times"] for net, kinds in result["nets"].items() if "times" in kinds}
        memory = {net: kinds["memory"] for net, kinds in result["nets"].items() if "memory" in kinds}
        if times:
            yield (
                f"Gradient rows in joint steps, {of}",
                _columns(times, lambda row: f"{row['joint_steps']:.2f}"),
            )
        if memory:
            yield (
                f"MiB that gradient rows take, {of}",
                _columns(memory, lambda peaks: f"{statistics.median(peaks):.0f}"),
            )
    if "inference" in result:
        compiled = ", compiled" if settings["compile"] else ""
        yield (
            f"Leaving early in {settings['net']}, untrained, at half of the FLOPs{compiled}",
            _table(
                ("precision", "batch", "static", *INFERENCE.values()),
                [
                    [
                        *(row["dtype"], str(row["batch_size"]), f"{row['static_ms']:.2f} ms"),
                        *(f"{row[key]:.2f}" for key in INFERENCE),
                    ]
                    for row in result["inference"]
                ],
            ),
        )
    if "times" in result:
        of = f"SegNet-MTAN, width {settings['width']}, {settings['size']}, batch {settings['batch']}"
        times, memory = result["times"], result.get("memory", {})
        rows = [
            (
                variant,
                _ratio(times[variant]["joint_steps"], times[variant]["quartiles"])
                if variant in times
                else "",
                f"{statistics.median(memory[variant]):.0f}" if variant in memory else "",
            )
            for variant in dict.fromkeys([*times, *memory])
        ]
        yield f"Methods of several tasks in joint steps, {of}", _table(("", "joint steps", "MiB"), rows)
    if name == "dr_mgf" and "steps" in result:
        of = f"{settings['net']}, {settings['precision']}, batch {settings['batch']}"
        rows = [(step, _ratio(r["plain_steps"], r["quartiles"])) for step, r in result["steps"].items()]
        yield f"DR-MGF in plain training steps, {of}", _table(("", "plain steps"), rows)
    if name == "dr_mgf" and "memory" in result:
        kept = result["memory"]
        rows = [(kind, f"{size / kept['the net']:.2f}") for kind, size in kept.items()]
        yield "What DR-MGF keeps, in nets", _table(("", "nets"), rows)


def _steps(rows: Sequence[Result]) -> str:
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    others = [v for v in variants if v != "joint"]
    weighed = any(row["peak_MiB"] for row in rows)
    lines = []
    for dtype, layout in dict.fromkeys((row["dtype"], row["layout"]) for row in rows):
        here = {row["variant"]: row for row in rows if (row["dtype"], row["layout"]) == (dtype, layout)}
        line = [f"{dtype}, {layout}", f"{here['joint']['median_s'] * 1e3:.2f} ms"]
        line += [_ratio(here[v]["joint_over_variant"], here[v]["quartiles"]) for v in others]
        if weighed:
            line.append(" / ".join(f"{here[v]['peak_MiB']:.0f}" for v in variants))
        lines.append(line)
    head = ["joint time / variant time", "joint", *others]
    return _table([*head, f"peak MiB: {' / '.join(variants)}"] if weighed else head, lines)


def _columns(nets: dict[str, dict[str, Any]], text: Any) -> str:
    variants = list(dict.fromkeys(variant for rows in nets.values() for variant in rows))
    lines = [[v, *(text(rows[v]) if v in rows else "" for rows in nets.values())] for v in variants]
    return _table(["", *nets], lines)


def _ratio(median: float, quartiles: Sequence[float]) -> str:
    return f"{median:.3f} [{quartiles[0]:.3f}, {quartiles[1]:.3f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
