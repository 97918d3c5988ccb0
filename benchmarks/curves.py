"""A plot of curves as an SVG file, which needs no library to be drawn or shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 720, 400, 60
COLORS = ("#1b6ca8", "#c0504d", "#5a8f3c", "#8064a2")
MOST = 2.0
"""Ratios above this are not drawn."""


@dataclass(frozen=True)
class Curve:
    """Values at 1, 2, 3, ...: ratios to 1, which is best."""

    name: str
    values: Sequence[float]


def plot(curves: Sequence[Curve], title: str, unit: str) -> str:
    """Return the text of an SVG file."""
    return "\n".join(_lines(curves, title, unit)) + "\n"


def _lines(curves: Sequence[Curve], title: str, unit: str) -> Iterator[str]:
    count = max(len(curve.values) for curve in curves)
    drawn = [value for curve in curves for value in curve.values if math.isfinite(value)]
    top = min(MOST, max(drawn))
    across, down = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def x(trial: float) -> float:
        return MARGIN + across * (trial - 1) / max(count - 1, 1)

    def y(ratio: float) -> float:
        return MARGIN + down * (1 - (min(ratio, top) - 1) / (top - 1 or 1))

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield f'<text x="{WIDTH / 2}" y="28" text-anchor="middle" font-size="14">{escape(title)}</text>'
    for step in range(6):
        ratio = 1 + (top - 1) * step / 5
        yield f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y(ratio):.1f}" y2="{y(ratio):.1f}" stroke="#ddd"/>'
        yield f'<text x="{MARGIN - 8}" y="{y(ratio) + 4:.1f}" text-anchor="end">{ratio:.3f}</text>'
    for trial in sorted({1, *range(count // 6, count + 1, max(count // 6, 1))}):
        yield f'<text x="{x(trial):.1f}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle">{trial}</text>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(unit)}</text>'
    for number, curve in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(curve.values, 1) if math.isfinite(v))
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
        place = f'x="{WIDTH - MARGIN}" y="{MARGIN + 18 * number}" text-anchor="end"'
        yield f'<text {place} fill="{color}">{escape(curve.name)}</text>'
    yield "</svg>"
