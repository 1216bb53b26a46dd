"""Charts as figures: where the bars, lines and labels of an SVG go. Pure; a template draws what it is given.

The numbers behind a chart stand in a table beside it, so a chart has no legend and needs no script. The invariant: all
coordinates are finite and inside the box, whatever the values are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LABEL_HEIGHT = 720, 180, 24
BARS_MAX = 62
GAP_SHARE = 0.25
TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the units of the view box; ``label`` is shown below it, where there is room."""

    x: float
    y: float
    width: float
    height: float
    value: int
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Tick:
    """One line across, with its value."""

    y: float
    value: int


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars over time, and ``line``: the running sum, as the points of a polyline on a scale of its own.

    Every ``labelled_every``-th bar has a label; a narrow screen leaves out every other of these.
    """

    bars: list[Bar]
    ticks: list[Tick]
    line: str
    total: int
    labelled_every: int
    width: int = WIDTH
    height: int = HEIGHT + LABEL_HEIGHT


def bar_chart(points: Sequence[tuple[str, int]]) -> BarChart:
    """A chart of (name, value) in order; of more than `BARS_MAX` the last ones."""
    shown = points[-BARS_MAX:]
    top = nice_top(max([value for _, value in shown], default=0))
    step = WIDTH / max(1, len(shown))
    every = max(1, -(-len(shown) // 10))
    total = sum(value for _, value in shown)
    bars, line, running = [], [], 0
    for i, (name, value) in enumerate(shown):
        height = HEIGHT * max(0, value) / top
        label = name[5:] if i % every == 0 else ""
        bars.append(
            Bar(round(i * step + step * GAP_SHARE / 2, 2), round(HEIGHT - height, 2), round(step * (1 - GAP_SHARE), 2),
                round(height, 2), value, name, label)
        )  # fmt: skip
        running += max(0, value)
        line.append(f"{(i + 0.5) * step:.1f},{HEIGHT - HEIGHT * running / max(1, total):.1f}")
    ticks = [Tick(round(HEIGHT - HEIGHT * n / TICKS, 2), top * n // TICKS) for n in range(1, TICKS + 1)]
    return BarChart(bars, ticks, " ".join(line), total, every)


def nice_top(value: int) -> int:
    """The next of 1, 2, 4, 8 times a power of ten that is not below ``value``, and divides into ticks."""
    power = 1
    while power * 8 < value:
        power *= 10
    return max(TICKS, next(power * n for n in (1, 2, 4, 8) if power * n >= value))


def share(value: int, whole: int) -> float:
    """A share in percent, within 0 and 100."""
    return round(min(100.0, max(0.0, value * 100 / whole)), 1) if whole > 0 else 0.0
