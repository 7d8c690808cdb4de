"""What the demo saw, for someone who was not there: one page without links, and the same as a picture.

Boundary: matplotlib, without a display; files.
"""

import base64
import html
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aicache.local.demo import script
from aicache.local.demo.story import Story
from aicache.local.demo.verdict import Line

OURS, OTHER, BAD, INK = "#1f6f8b", "#c9a227", "#b23a48", "#22333b"
SHOWN = 512


def draw(story: Story, lines: Sequence[Line], folder: Path) -> tuple[Path, Path]:
    """Write `aicache-demo.html` and `aicache-demo.png` into a folder; gives both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_client(axes[0][0], story)
    _draw_model(axes[0][1], story)
    _draw_recommendations(axes[1][0], story)
    _draw_incidents(axes[1][1], story)
    figure.suptitle(
        f"{script.CLIENTS:,} clients learned together; nobody, the operator included, could read one of them",
        fontsize=14,
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    png, page = folder / "aicache-demo.png", folder / "aicache-demo.html"
    png.write_bytes(out.getvalue())
    page.write_text(_page(story, lines, out.getvalue()))
    return page, png


def _draw_client(axes: Any, story: Story) -> None:
    assert story.held is not None and story.visible is not None
    held = story.held[:SHOWN] / max(1.0, float(np.abs(story.held).max()))
    seen = story.visible[:SHOWN] / 2.0**47 - 1.0
    axes.plot(seen + 1.6, color=BAD, lw=0.5)
    axes.plot(held - 1.6, color=OURS, lw=0.8)
    axes.set_yticks([1.6, -1.6], ["what the broker\nstores of it", "what one client\nsent to learn"])
    axes.set_ylim(-3, 3)
    axes.set(title="One client's update: what it held, and what a broker operator sees", xlabel="first coordinates")


def _draw_model(axes: Any, story: Story) -> None:
    rounds = range(1, len(story.recall) + 1)
    axes.plot(rounds, story.recall, marker="o", color=OURS, label="model, learned under the mask with noise")
    axes.axhline(story.popularity, color=OTHER, ls="--", label="popularity")
    axes.set_ylim(0, max([*story.recall, story.popularity, 0.1]) * 1.25)
    axes.set(
        title=f"Next tag on held-out questions; in all ε = {story.epsilon:.2f}, δ = {script.DELTA:g} a client",
        xlabel="round",
        ylabel="recall among 5 answers",
    )
    axes.legend(loc="lower right")


def _draw_recommendations(axes: Any, story: Story) -> None:
    curve = story.curve
    if curve is not None and len(curve.ours):
        start = min(100, len(curve.ours) - 1)
        axes.plot(curve.questions[start:], curve.ours[start:], color=OURS, label="recommendations")
        axes.plot(curve.questions[start:], curve.popular[start:], color=OTHER, ls="--", label="popularity")
        axes.legend(loc="lower right")
        axes.set_ylim(0, max(curve.ours[start:].max(), curve.popular[start:].max()) * 1.25)
    axes.set(
        title="Recommendations from usage events, each asked before it was learned",
        xlabel="questions so far",
        ylabel="recall among 10 answers",
    )


def _draw_incidents(axes: Any, story: Story) -> None:
    opened = [incident for incident in story.incidents if incident.status == "opened"]
    latest = {incident.incident: incident for incident in story.incidents}
    start_s = min((minute for minute, _, _ in story.failures), default=0)
    for release, color in ((script.FAILING_RELEASE, BAD), ("other releases", OURS)):
        points = [((m - start_s) / 60, rate) for m, name, rate in story.failures if name == release]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=".", label=release)
    rates = [rate for _, name, rate in story.failures if name == "other releases"]
    if rates:
        spread = 3 * float(np.std(rates))
        middle = float(np.mean(rates))
        axes.axhspan(max(0.0, middle - spread), middle + spread, color=OURS, alpha=0.12, label="expected")
    for incident in opened:
        if incident.subject == script.FAILING_OPERATION:
            axes.axvline((incident.since_s - start_s) / 60, color=INK, ls=":", label="detected")
    text = "\n".join(f"{i.subject}: {i.release}, {i.seen:.0%} instead of {i.expected:.0%}" for i in latest.values())
    axes.set(
        title=f"Failures of {script.FAILING_OPERATION} a minute, by release",
        xlabel=f"minutes\n{text}",
        ylabel="share of uses that fail",
    )
    axes.legend(loc="upper left")


def _page(story: Story, lines: Sequence[Line], png: bytes) -> str:
    rows = "\n".join(
        f"<tr class={'yes' if line.holds else 'no'}><td>{'✓' if line.holds else '✗'}</td><td>{html.escape(line.claim)}</td>"
        f"<td>{html.escape(line.found)}</td></tr>"
        for line in lines
    )
    answers = "\n".join(
        f"<li><b>{html.escape(answer.items[0].item)}</b>: often with "
        + html.escape(", ".join(f"{reason.item} ({reason.weight:.0%})" for reason in answer.items[0].reasons))
        + "</li>"
        for answer in story.answers[-400:]
        if answer.items and answer.items[0].reasons
    ).splitlines()[:6]
    letters = Counter(f"{letter.topic}: {letter.reason}" for letter in story.dead)
    dead = ", ".join(f"{html.escape(what)} × {count}" for what, count in letters.most_common(6))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>aicache demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; max-width: 1100px; margin: 2em auto; padding: 0 1em }}
img {{ width: 100% }} td {{ padding: .3em .6em; vertical-align: top; border-bottom: 1px solid #ddd }}
.yes td:first-child {{ color: {OURS} }} .no td {{ color: {BAD} }}
</style></head><body>
<h1>A crowd that learns without showing itself</h1>
<p>{script.CLIENTS:,} clients, each with a handful of real Ask Ubuntu questions, published masked updates and anonymized usage events to a
real Kafka. Five committee members opened only sums. The run took {story.ended_s:.0f} seconds; its seed was {story.seed}.</p>
<img alt="four plots" src="data:image/png;base64,{base64.b64encode(png).decode()}">
<p><b>Top left:</b> what one client sent to learn, and the bytes that the broker stores of it: they look like noise to everybody, and only
the sum over hundreds of clients can be opened. <b>Top right:</b> what the model learned from those sums, with noise that hides each
client. <b>Bottom left:</b> recommendations learned from usage events as they came in. <b>Bottom right:</b> a release that fails more
often is found from public names alone.</p>
<h2>Verdict</h2><table>{rows}</table>
<h2>Some recommendations, with their reasons</h2><ul>{"".join(answers)}</ul>
<h2>What was refused</h2><p>{dead or "nothing"}</p>
<p><small>Questions: contributors of Ask Ubuntu, a Stack Exchange site, CC BY-SA. They were dealt out to made-up clients by a
hash.</small></p>
</body></html>
"""
