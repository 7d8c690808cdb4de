"""Small plots for people who plan. Boundary: matplotlib, without a display."""

from collections.abc import Sequence
from pathlib import Path


def draw_plan(epsilons: Sequence[float], errors: Sequence[float], title: str, file: Path) -> None:
    """Error of a mean against epsilon, both on logarithmic axes.

    Args:
        epsilons: privacy budgets.
        errors: standard errors, one each.
        title: what was planned.
        file: PNG or SVG, by its ending.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(epsilons, errors, marker="o")
    axes.set(xlabel="epsilon, all rounds together", ylabel="standard error of a mean", title=title)
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(file)
