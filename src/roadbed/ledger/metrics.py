"""Counters, gauges and histograms in memory, rendered as Prometheus text (exposition format 0.0.4).

Labels are small closed sets (app, route, rung, code); never a user, key, conversation or release id. One process
keeps its own numbers; they start at zero with it, as Prometheus expects.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SERIES_MAX = 5000
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LabelValues = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """One metric as it stands. ``cells`` are one value by label values, or a histogram's counts with its sum last."""

    kind: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    cells: dict[LabelValues, tuple[float, ...]]


class Samples:
    """Measurements on their way into a histogram: `add` one as often as it comes, `fold` them in many at once."""

    __slots__ = ("_bounds", "_cells", "_values", "add")

    def __init__(self, cells: list[float], bounds: tuple[float, ...]) -> None:
        self._values: list[float] = []
        self.add = self._values.append
        self._cells = cells
        self._bounds = bounds

    def fold(self) -> None:
        """Count what was added since the last time."""
        cells, bounds, values = self._cells, self._bounds, self._values
        for value in values:
            cells[bisect_left(bounds, value)] += 1
        cells[-1] += sum(values)
        values.clear()


class Metrics:
    """All metrics of one process. Each name is declared once with its help text and label names."""

    def __init__(self) -> None:
        self._declared: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        self._values: dict[str, dict[LabelValues, list[float]]] = {}
        self._bounds: dict[str, tuple[float, ...]] = {}
        self._histograms: dict[str, dict[LabelValues, list[float]]] = {}
        self._gauges: list[tuple[str, Callable[[], float]]] = []
        self._series = 0
        self._before_showing: list[Callable[[], None]] = []

    def declare(
        self, name: str, kind: str, help_text: str, *labels: str, bounds: tuple[float, ...] = LATENCY_BUCKETS_S
    ) -> None:
        """Declare a ``counter``, ``gauge`` or ``histogram``; declaring it twice alike is harmless."""
        self._declared[name] = (kind, help_text, labels)
        if kind == "histogram":
            self._bounds[name] = bounds
        target = self._histograms if kind == "histogram" else self._values
        target.setdefault(name, {})

    def gauge_from(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when it is rendered."""
        self._declared[name] = ("gauge", help_text, ())
        self._gauges.append((name, read))

    def before_showing(self, bring_up_to_date: Callable[[], None]) -> None:
        """Call this before values are shown, for whoever counts in arrears."""
        self._before_showing.append(bring_up_to_date)

    def counter(self, name: str, labels: LabelValues = ()) -> list[float]:
        """The cell of a counter or gauge, for whoever raises it often; over `SERIES_MAX` one that is shown nowhere."""
        series = self._values[name]
        cell = series.get(labels)
        if cell is None:
            cell = [0.0]
            if self._has_room():
                series[labels] = cell
        return cell

    def histogram(self, name: str, labels: LabelValues = ()) -> list[float]:
        """The cells of a histogram, for `observe_in` with the histogram's bounds."""
        series = self._histograms[name]
        cells = series.get(labels)
        if cells is None:
            cells = [0.0] * (len(self._bounds[name]) + 2)
            if self._has_room():
                series[labels] = cells
        return cells

    def samples(self, name: str, labels: LabelValues = ()) -> Samples:
        """A way into a histogram for whoever measures often, who folds them before too many wait, and to be shown."""
        return Samples(self.histogram(name, labels), self._bounds[name])

    def add(self, name: str, labels: LabelValues = (), amount: float = 1.0) -> None:
        """Raise a counter."""
        self.counter(name, labels)[0] += amount

    def set(self, name: str, value: float, labels: LabelValues = ()) -> None:
        """Set a gauge."""
        self.counter(name, labels)[0] = value

    def observe(self, name: str, seconds: float, labels: LabelValues = ()) -> None:
        """Add a measurement to a histogram."""
        observe_in(self.histogram(name, labels), seconds, self._bounds[name])

    def value(self, name: str, labels: LabelValues = ()) -> float:
        """The present value of a counter or gauge; zero when it was never touched."""
        self._bring_up_to_date()
        cell = self._values[name].get(labels)
        return 0.0 if cell is None else cell[0]

    def read(self, names: Iterable[str]) -> dict[str, Read]:
        """These metrics, those that are declared of them."""
        self._bring_up_to_date()
        found = {}
        for name in names:
            if name in self._declared:
                kind, help_text, labels = self._declared[name]
                series = self._histograms[name] if kind == "histogram" else self._values[name]
                cells = {values: tuple(cell) for values, cell in series.items()}
                found[name] = Read(kind, help_text, labels, self._bounds.get(name, ()), cells)
        return found

    def _bring_up_to_date(self) -> None:
        for bring_up_to_date in self._before_showing:
            bring_up_to_date()

    def _has_room(self) -> bool:
        self._series += 1
        return self._series <= SERIES_MAX

    def render(self) -> str:
        """All metrics as Prometheus text."""
        self._bring_up_to_date()
        lines: list[str] = []
        live = dict(self._gauges)
        for name in sorted(self._declared):
            kind, help_text, labels = self._declared[name]
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
            if name in live:
                lines.append(f"{name} {_number(live[name]())}")
            elif kind == "histogram":
                for values, cells in sorted(self._histograms[name].items()):
                    lines += _histogram_lines(name, labels, values, cells, self._bounds[name])
            else:
                for values, cell in sorted(self._values[name].items()):
                    lines.append(f"{name}{_label_text(labels, values)} {_number(cell[0])}")
        return "\n".join(lines) + "\n"


def observe_in(cells: list[float], seconds: float, bounds: tuple[float, ...] = LATENCY_BUCKETS_S) -> None:
    """Add a measurement to the cells of a histogram with these bounds."""
    cells[bisect_left(bounds, seconds)] += 1
    cells[-1] += seconds


def _histogram_lines(
    name: str, labels: tuple[str, ...], values: LabelValues, cells: list[float], bounds: tuple[float, ...]
) -> list[str]:
    lines, total = [], 0.0
    for bound, count in zip([*map(_number, bounds), "+Inf"], cells[:-1], strict=True):
        total += count
        lines.append(f"{name}_bucket{_label_text((*labels, 'le'), (*values, bound))} {_number(total)}")
    lines.append(f"{name}_sum{_label_text(labels, values)} {_number(cells[-1])}")
    lines.append(f"{name}_count{_label_text(labels, values)} {_number(total)}")
    return lines


def _label_text(names: tuple[str, ...], values: LabelValues) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
