"""The picture of problem B: the progress of every method after some numbers of steps."""

from __future__ import annotations

from typing import Any

import torch

from offramp.analysis.toys.descent import MILESTONES, Descent

__all__ = ["draw_race"]

# Okabe & Ito (2008)
TASKS = {"task 1": "#0072B2", "task 2": "#D55E00"}
FUSED = "#009E73"
COLOURS = {
    "joint": "#000000", "task 1": "#999999", "pcgrad": "#E69F00", "cagrad": "#56B4E9", "nash-mtl": "#CC79A7",
    "graddrop": "#8C6D31", "dominance": "#6A3D9A", "dr-mgf": FUSED,
}  # fmt: skip
OTHERS = ("#0072B2", "#D55E00", "#F0A0A0", "#405060", "#A0C040")
SHADES = ("0.8", "0.6", "0.4", "0.0")  # of the milestones and the last step
FANS = 9  # of DR-MGF's epochs, those whose stages are drawn


def draw_race(figure: Any, descent: Descent) -> None:
    """Draw the plane of theta, each method's progress along the diagonal, and the loss against steps.

    Args:
        figure: matplotlib's.
        descent: On problem B.
    """
    plane, progress, losses = figure.subplots(1, 3, width_ratios=[1.15, 1.0, 1.15])
    alike = _alike(descent)
    colours = _colours(descent, alike)
    _plane(plane, descent)
    _progress(progress, descent, alike, colours)
    _losses(losses, descent, alike, colours)


def _alike(descent: Descent) -> list[list[int]]:
    """Methods in bunches of equal passes whose losses never differ by more than 1 %, the slowest first."""
    total = descent.losses[:, :, 0].sum(-1).T
    bunches: list[list[int]] = []
    for m, losses in enumerate(total):
        for bunch in bunches:
            alike = torch.allclose(losses, total[bunch[0]], rtol=0.01, atol=1e-12)
            if alike and descent.passes[m] == descent.passes[bunch[0]]:
                bunch.append(m)
                break
        else:
            bunches.append([m])
    return sorted(bunches, key=lambda bunch: -float(total[bunch[0]].log().sum()))


def _plane(axes: Any, descent: Descent) -> None:
    ticks = torch.linspace(-1.5, 1.5, 121, dtype=torch.float64)
    height = (ticks[None] - 1) ** 2 + (ticks[:, None] + 1) ** 2
    axes.contour(ticks, ticks, height, levels=[0.1, 0.5, 1, 2, 3, 4, 6, 8], colors="0.8", linewidths=0.8)
    way = {name: descent.problem.plane(descent.points[:, m, 0]) for m, name in enumerate(descent.methods)}
    for epoch, last in _fans(descent):
        for k, colour in enumerate(TASKS.values()):
            stage = descent.problem.plane(torch.stack([last, epoch.ends[0, k]]))
            axes.plot(stage[:, 0], stage[:, 1], color=colour, linewidth=0.9, alpha=0.6, zorder=2)
    for name, colour in TASKS.items():
        axes.plot(way[name][:, 0], way[name][:, 1], color=colour, linewidth=2.2, zorder=3)
        x, y = way[name][-1].tolist()
        axes.plot(x, y, "s", color=colour, markersize=7, zorder=4)
        axes.annotate(f"{name} alone", (x, y), (0, 9 if y > 0 else -17), textcoords="offset points",
                      color=colour, ha="center", fontsize=10)  # fmt: skip
    fused = way["dr-mgf"]
    axes.plot(fused[:, 0], fused[:, 1], color=FUSED, linewidth=2.2, zorder=3)
    axes.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=7, zorder=5)
    axes.plot(1, -1, "*", color="black", markersize=15, zorder=5)
    axes.annotate("best for both", (1, -1), (0, -19), textcoords="offset points", ha="center", fontsize=10)
    axes.set(aspect="equal", xlabel="θ₁", ylabel="θ₂", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    axes.set_title("DR-MGF (green) and some of its stages", loc="left", fontsize=11)


def _fans(descent: Descent) -> list[tuple[Any, torch.Tensor]]:
    """Some of DR-MGF's epochs, evenly along its way, each with the point where its stages began."""
    begins = [torch.tensor(descent.starts[0], dtype=torch.float64), *(e.points[0] for e in descent.epochs)]
    next_theta, fans = 0.0, []
    for epoch, last in zip(descent.epochs, begins[:-1], strict=True):
        if (theta := float(descent.problem.plane(last)[0])) >= next_theta:
            fans.append((epoch, last))
            next_theta = theta + 1 / FANS
    return fans


def _progress(axes: Any, descent: Descent, alike: list[list[int]], colours: list[str]) -> None:
    """How far along the diagonal from the start to the best point, at each milestone and at the end."""
    theta = descent.problem.plane(descent.points[:, :, 0])
    along = (theta[..., 0] - theta[..., 1]) / 2
    marks = [t for t, step in enumerate(descent.steps) if step in MILESTONES or t + 1 == len(descent.steps)]
    shades = SHADES[-len(marks) :]
    order = [(m, colour) for bunch, colour in zip(alike, colours, strict=True) for m in bunch]
    for y, (m, colour) in enumerate(order):
        axes.plot([0, float(along[-1, m])], [y, y], color=colour, linewidth=1.5, zorder=2)
        for t, shade in zip(marks, shades, strict=True):
            axes.plot(
                float(along[t, m]), y, "o", color=shade, markeredgecolor="black", markersize=7, zorder=3
            )
    for t, shade in zip(marks, shades, strict=True):
        axes.plot([], [], "o", color=shade, markeredgecolor="black", label=f"{descent.steps[t]:,}")
    axes.legend(title="steps", loc="lower right", bbox_to_anchor=(0.97, 0.02), frameon=False, fontsize=9.5,
                title_fontsize=9.5, handletextpad=0.2)  # fmt: skip
    axes.axvline(1, color="0.7", linewidth=1, zorder=1)
    axes.set_yticks(range(len(order)), [_method_label(descent, m) for m, _ in order])
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="(θ₁ - θ₂) / 2", xlim=(-0.06, 1.06))
    axes.set_title("step by step: start (0) to best point (1)", loc="left", fontsize=11)


def _method_label(descent: Descent, m: int) -> str:
    """A method's name, with its passes where a step takes several."""
    passes = descent.passes[m]
    return descent.methods[m] + (f"\n({passes} passes a step)" if passes > 1 else "")


def _losses(axes: Any, descent: Descent, alike: list[list[int]], colours: list[str]) -> None:
    total = descent.losses[:, :, 0].sum(-1)
    for bunch, colour in zip(alike, colours, strict=True):
        names = ", ".join(descent.methods[m] for m in bunch)
        passes = [step * descent.passes[bunch[0]] for step in descent.steps[1:]]
        axes.plot(passes, total[1:, bunch[0]], color=colour, linewidth=1.9, label=names)
    axes.set(xscale="log", yscale="log", xlabel="passes", ylabel="f1 + f2", ylim=(1e-5, 8))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("")  # labels of a short race would stand on one another
    axes.set_title("pass by pass: the sum of the losses", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="lower left")


def _colours(descent: Descent, alike: list[list[int]]) -> list[str]:
    """One for each bunch: that of its first method, or one that is left over."""
    others = iter(OTHERS)
    return [COLOURS.get(descent.methods[bunch[0]]) or next(others) for bunch in alike]
