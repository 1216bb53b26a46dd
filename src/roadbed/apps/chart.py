"""Which chart a table wants, by rule, and the SVG of it. Pure; no model and no script has a part in it.

Time and a measure: a line. At most `BARS_MAX` names and a measure: bars. Two measures: a scatter. Else the table alone.
The SVG has a title and a description, draws with ``currentColor``, and its numbers stand in the table under it. The
invariant: every coordinate is finite and inside the view box, and no cell becomes markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from typing import Any, Literal

import msgspec

from roadbed.apps.analytics_table import NOT_XML, Table, is_measure, is_time, shown

Kind = Literal["line", "bar", "scatter"]

BARS_MAX = 12
POINTS_MAX = 500
WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 30, 52
NARROW_PX = 340
TICKS = 4
LABEL_CHARACTERS = 12
LARGEST = 1e15
# A picture that stands alone follows the reader's scheme; in a page its style sheet does.
_STYLE = "<style>svg{color:#1b1d21}@media(prefers-color-scheme:dark){svg{color:#ececea}}</style>"


@dataclass(frozen=True, slots=True)
class Box:
    """The picture's size and its margins. In a narrow one, names below bars stand aslant when one has no room."""

    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM
    is_narrow: bool = False
    is_aslant: bool = False

    @property
    def right_end(self) -> int:
        """Where lines across end."""
        return self.width - RIGHT

    def x(self, share: float) -> float:
        """A place across."""
        return round(self.left + (self.right_end - self.left) * min(1.0, max(0.0, share)), 2)

    def y(self, value: float, low: float, high: float) -> float:
        """A place down, for a value of an axis."""
        return round(self.height - self.bottom - (self.height - TOP - self.bottom) * _share(value, low, high), 2)


WIDE = Box()
NARROW = Box(NARROW_PX, 240, 48, is_narrow=True)
"""For screens of phones: as it is shown, its letters are as large as in the wide one."""
ASLANT_PX = 48
"""By how much a narrow box is taller whose names stand aslant."""


class Chart(msgspec.Struct, frozen=True):
    """What to draw: columns by position. ``x`` is a time, a name or a measure; ``y`` a measure."""

    kind: Kind
    x: int
    y: int


def choose(table: Table, wanted: str = "auto") -> Chart | None:
    """The chart of a table; None when the table says it better. ``wanted`` draws another kind where it fits."""
    if wanted == "none" or not 2 <= len(table.rows) <= POINTS_MAX:
        return None
    places = range(len(table.columns))
    times = [place for place in places if is_time(table, place)]
    measures = [place for place in places if place not in times and is_measure(table, place)]
    names = [place for place in places if place not in times and place not in measures]
    found: dict[str, Chart] = {}
    if len(times) == 1 and measures and not names and len({row[times[0]] for row in table.rows}) == len(table.rows):
        found["line"] = Chart("line", times[0], measures[-1])
    # The first column names the bars even where it holds numbers, such as years or grades.
    named = names[0] if names else (places[0] if len(measures) >= 2 and _is_key(table, places[0]) else None)
    if named is not None and len(names) <= 1 and not times and len(table.rows) <= BARS_MAX:
        bars = [place for place in measures if place != named]
        if bars and len({_text(row[named]) for row in table.rows}) == len(table.rows):
            found["bar"] = Chart("bar", named, bars[-1])
    if len(measures) == 2 and not times and len(names) <= 1:
        found["scatter"] = Chart("scatter", measures[0], measures[1])
    if wanted in found:
        return found[wanted]
    for kind in ("line", "bar", "scatter"):
        if kind in found and _has_numbers(table, found[kind]):
            return found[kind]
    return None


def _is_key(table: Table, place: int) -> bool:
    """Whether a column of numbers looks like names: whole, small in count, ascending."""
    values = table.numbers(place)
    whole = [value for value in values if value is not None and value == int(value)]
    return len(whole) == len(values) and whole == sorted(set(whole))


def _has_numbers(table: Table, chart: Chart) -> bool:
    return sum(value is not None for value in table.numbers(chart.y)) >= 2


def svg_of(
    table: Table, chart: Chart, title: str, *, is_standalone: bool = True, key: str = "chart", box: Box = WIDE
) -> str:
    """The chart as SVG text. ``key`` makes the ids of title and description unique in a page."""
    if box.is_narrow and chart.kind == "bar" and not _fits(table, chart, box):
        box = replace(box, height=box.height + ASLANT_PX, bottom=box.bottom + ASLANT_PX, is_aslant=True)
    values = table.numbers(chart.y)
    low, high = _bounds([value for value in values if value is not None], with_zero=chart.kind != "scatter")
    body = [*_grid(low, high, box), *_names(table, chart, box)]
    draw = {"bar": _bars, "line": _line, "scatter": _dots}[chart.kind]
    body += draw(table, chart, values, low, high, box)
    name = escape(f"{key}-title"), escape(f"{key}-desc")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure{" narrow" if box.is_narrow else ""}" '
        f'viewBox="0 0 {box.width} {box.height}" role="img" '
        f'aria-labelledby="{name[0]} {name[1]}" font-size="12" font-family="sans-serif">'
        f'<title id="{name[0]}">{_safe(title)}</title><desc id="{name[1]}">{_safe(describe(table, chart))}</desc>'
        f"{_STYLE if is_standalone else ''}{''.join(body)}</svg>"
    )


def describe(table: Table, chart: Chart) -> str:
    """What the chart shows, in words, for those who do not see it."""
    y, x = table.columns[chart.y].name, table.columns[chart.x].name
    pairs = [(row, value) for row, value in zip(table.rows, table.numbers(chart.y), strict=True) if value is not None]
    words = {"line": "Line", "bar": "Bars", "scatter": "Points"}[chart.kind]
    text = f"{words} of {y} by {x}, {len(pairs)} of {len(table.rows)} rows."
    if pairs and chart.kind != "scatter":
        least, most = min(pairs, key=lambda pair: pair[1])[0], max(pairs, key=lambda pair: pair[1])[0]
        text += f" Least {shown(least[chart.y])} ({_text(least[chart.x])}), most {shown(most[chart.y])} "
        text += f"({_text(most[chart.x])})."
    return f"{text} The numbers are in the table."


def _bounds(values: Sequence[float], *, with_zero: bool) -> tuple[float, float]:
    """The ends of an axis: whole steps around the values, so that its ticks are round numbers."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if with_zero:
        low, high = min(0.0, low), max(0.0, high)
    span = high - low
    if not math.isfinite(span) or max(abs(low), abs(high)) > LARGEST or 0 < span < 1 / LARGEST:
        return low, high if high > low else low + 1.0
    if span <= abs(low) * 1e-9 or not span:
        span = max(1.0, abs(low))
        return low - span / 2, low + span / 2
    step = _step(span)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _step(span: float) -> float:
    """The step of 1, 2, 2.5 or 5 times a power of ten that parts a span into at most `TICKS` pieces."""
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    return next((power * n for n in (1, 2, 2.5, 5, 10) if power * n * TICKS >= span), power * 10)


def _share(value: float, low: float, high: float) -> float:
    width = high / 2 - low / 2  # halves, so that no difference overflows
    share = (value / 2 - low / 2) / width if width else 0.5
    return min(1.0, max(0.0, share)) if math.isfinite(share) else 0.5


def _grid(low: float, high: float, box: Box) -> list[str]:
    parts = []
    span = high / 2 - low / 2
    steps = TICKS
    if math.isfinite(span * 2) and span * 2 > 1 / LARGEST and max(abs(low), abs(high)) <= LARGEST:
        steps = max(1, min(2 * TICKS, round(span * 2 / _step(span * 2))))
    for n in range(steps + 1):
        value = low * (1 - n / steps) + high * (n / steps)
        y = box.y(value, low, high)
        parts.append(
            f'<line class="grid" x1="{box.left}" x2="{box.right_end}" y1="{y}" y2="{y}" stroke="currentColor" '
            f'stroke-opacity="0.15"/><text class="tick" x="{box.left - 8}" y="{round(y + 4, 2)}" text-anchor="end" '
            f'fill="currentColor" fill-opacity="0.75">{_safe(short(value))}</text>'
        )
    return parts


def _names(table: Table, chart: Chart, box: Box) -> list[str]:
    """What the axes show: the measure above, the other column below."""
    places = ((box.left, TOP - 16, "start", chart.y), (box.right_end, box.height - 10, "end", chart.x))
    return [
        f'<text class="axis" x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor" fill-opacity="0.75">'
        f"{_safe(table.columns[column].name[:60])}</text>"
        for x, y, anchor, column in places
    ]


def short(value: float) -> str:
    """A number as an axis shows it: ``1.2M``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}" if abs(value) < 1e15 else f"{value:.2g}"
    return f"{value:.3g}"


def _label(box: Box, x: float, text: str, anchor: str = "middle", turn: str = "") -> str:
    cut = text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"
    return (
        f'<text class="label" x="{round(x, 2)}" y="{box.height - box.bottom + 18}" text-anchor="{anchor}"{turn} '
        f'fill="currentColor" fill-opacity="0.75">{_safe(cut)}</text>'
    )


def _characters(table: Table, box: Box) -> int:
    """How long a name below a bar may be."""
    return max(3, int((box.right_end - box.left) / len(table.rows) / 7))


def _fits(table: Table, chart: Chart, box: Box) -> bool:
    return all(len(_text(row[chart.x])) <= _characters(table, box) for row in table.rows)


def _bars(table: Table, chart: Chart, values: Sequence[float | None], low: float, high: float, box: Box) -> list[str]:
    step = (box.right_end - box.left) / len(table.rows)
    zero = box.y(0.0, low, high)
    parts = []
    characters = _characters(table, box)
    for n, (row, value) in enumerate(zip(table.rows, values, strict=True)):
        x = box.left + n * step
        name = _text(row[chart.x])
        if value is not None:
            y = box.y(value, low, high)
            parts.append(
                f'<rect x="{round(x + step * 0.15, 2)}" y="{min(y, zero)}" width="{round(step * 0.7, 2)}" '
                f'height="{round(abs(zero - y), 2)}" fill="currentColor" fill-opacity="0.7">'
                f"<title>{_safe(f'{name}: {shown(row[chart.y])}')}</title></rect>"
            )
        middle = round(x + step / 2, 2)
        if box.is_aslant:
            turn = f' transform="rotate(-50 {middle} {box.height - box.bottom + 12})"'
            parts.append(_label(box, middle, name, "end", turn))
        else:
            parts.append(_label(box, middle, name if len(name) <= characters else name[: characters - 1] + "…"))
    return parts


def _line(table: Table, chart: Chart, values: Sequence[float | None], low: float, high: float, box: Box) -> list[str]:
    seconds = [_seconds(row[chart.x]) for row in table.rows]
    known = [second for second in seconds if second is not None]
    first, last = min(known, default=0.0), max(known, default=1.0)
    points = sorted(
        (second, value, row)
        for second, value, row in zip(seconds, values, map(_Row, table.rows), strict=True)
        if second is not None and value is not None
    )
    places = [(box.x(_share(second, first, last)), box.y(value, low, high), row.cells) for second, value, row in points]
    parts = [
        f'<polyline points="{" ".join(f"{x},{y}" for x, y, _ in places)}" fill="none" stroke="currentColor" '
        f'stroke-width="2"/>'
    ]
    parts += [
        f'<circle cx="{x}" cy="{y}" r="3" fill="currentColor"><title>'
        f"{_safe(f'{_text(cells[chart.x])}: {shown(cells[chart.y])}')}</title></circle>"
        for x, y, cells in places
    ]
    if places:
        parts.append(_label(box, places[0][0], _text(places[0][2][chart.x])[:10], "start"))
        parts.append(_label(box, places[-1][0], _text(places[-1][2][chart.x])[:10], "end"))
    return parts


class _Row:
    """A row beside which others stand equal in a sort."""

    def __init__(self, cells: tuple[Any, ...]) -> None:
        self.cells = cells

    def __lt__(self, other: object) -> bool:
        return False


def _dots(table: Table, chart: Chart, values: Sequence[float | None], low: float, high: float, box: Box) -> list[str]:
    across = table.numbers(chart.x)
    left, right = _bounds([value for value in across if value is not None], with_zero=False)
    parts = [
        f'<circle cx="{box.x(_share(x, left, right))}" cy="{box.y(y, low, high)}" r="4" fill="currentColor" '
        f'fill-opacity="0.6"><title>{_safe(f"{shown(row[chart.x])}, {shown(row[chart.y])}")}</title></circle>'
        for row, x, y in zip(table.rows, across, values, strict=True)
        if x is not None and y is not None
    ]
    return [*parts, _label(box, box.left, short(left), "start"), _label(box, box.right_end, short(right), "end")]


def _seconds(value: Any) -> float | None:
    text = str(value)
    try:
        found = datetime.fromisoformat(f"{text}-01" if len(text) == 7 else text)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else shown(value)


def _safe(text: str) -> str:
    """Text of an XML document: markup escaped, characters that XML does not know replaced."""
    return escape(NOT_XML.sub("\ufffd", text[:500]))
