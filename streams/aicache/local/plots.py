"""Small plots for people who plan. Boundary: matplotlib, without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aicache.privacy.errors import LocalError


def draw_plan(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, file: Path) -> None:
    """Error of a mean against epsilon, both on logarithmic axes.

    Args:
        curves: by name: privacy budgets, and standard errors, one each.
        title: what was planned.
        file: PNG or SVG, by its ending.

    Raises:
        LocalError: it is another kind of file, or it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, (epsilons, errors) in curves.items():
        axes.loglog(epsilons, errors, marker="o", label=name)
    if len(curves) > 1:
        axes.legend()
    axes.set(xlabel="epsilon, all rounds together", ylabel="standard error of a mean", title=title)
    axes.grid(visible=True, which="both", alpha=0.3)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise LocalError(f"{file} cannot be drawn: {error}", got=str(file), needed="a .png or .svg to write") from None
