"""The page ``docs/security/control-map.md``, made of the map. Pure."""

from __future__ import annotations

from roadbed.controls.frameworks import ControlMap


def control_map_page(mapped: ControlMap) -> str:
    """The whole page."""
    names = list(mapped.frameworks)
    lines = [
        "<!-- Made by `make docs` from src/roadbed/controls/frameworks.json. Edit that, not this page. -->",
        "",
        "# Control map",
        "",
        f"Version {mapped.version}. {mapped.note} What each control does is in [controls](controls.md).",
        "",
        f"| Control | {' | '.join(mapped.frameworks[name].title for name in names)} |",
        f"|{'---|' * (len(names) + 1)}",
    ]
    for control, clauses in mapped.controls.items():
        cells = [", ".join(clauses.get(name, [])) or "-" for name in names]
        lines.append(f"| `{control}` | {' | '.join(cells)} |")
    lines += ["", "## Since when parts apply", "", "| From | Framework | What |", "|---|---|---|"]
    lines += [f"| {date.start} | {mapped.frameworks[date.framework].title} | {date.what} |" for date in mapped.dates]
    lines += ["", "## What no control shows", ""]
    lines += [f"- {gap.what}: {gap.why}." for gap in mapped.not_covered]
    return "\n".join(lines) + "\n"
