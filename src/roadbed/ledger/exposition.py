"""Adding up what several processes say in Prometheus text, for one `/metrics` over all of them.

Pure functions of what `Metrics.render` writes. All samples of one series are added, gauges too: they count things that
each process has some of. A process that has ended keeps its counters in the sum (`without_gauges`), so that no counter
ever falls. The invariant: the sum of one text is that text.
"""

from __future__ import annotations

from collections.abc import Iterable


def add_up(texts: Iterable[str]) -> str:
    """One text with every metric and series of ``texts``, in the order of their names, samples added."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, float]] = {}
    for text in texts:
        name = ""
        for line in text.splitlines():
            if line.startswith("# "):
                name = line.split(" ", 3)[2]
                head = heads.setdefault(name, [])
                if line not in head and len(head) < 2:
                    head.append(line)
                samples.setdefault(name, {})
            else:
                series, _, value = line.rpartition(" ")
                found = samples[name]
                found[series] = found.get(series, 0.0) + float(value)
    lines: list[str] = []
    for name in sorted(heads):
        lines += heads[name]
        lines += [f"{series} {_number(value)}" for series, value in samples[name].items()]
    return "\n".join(lines) + "\n" if lines else ""


def without_gauges(text: str) -> str:
    """The counters and histograms of a text."""
    lines = text.splitlines()
    gauges = {words[2] for line in lines if (words := line.split(" "))[:2] == ["#", "TYPE"] and words[3] == "gauge"}
    kept, name = [], ""
    for line in lines:
        if line.startswith("# "):
            name = line.split(" ", 3)[2]
        if name not in gauges:
            kept.append(line)
    return "\n".join(kept) + "\n" if kept else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
