"""How figures and times are written on pages: one form for each, the same everywhere. Pure functions.

Templates call them as filters. The exact value is always kept beside a relative one (in a title), never instead.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`]{1,200})`")
_UNITS_S = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def count(value: int | float) -> str:
    """A whole number with separators."""
    return f"{round(value):,}"


def duration_us(value: float) -> str:
    """A duration in the unit in which it reads best: ``0.1 ms``, ``19 ms``, ``1.92 s``, ``2 min 5 s``."""
    milliseconds = value / 1000
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return duration_s(milliseconds / 1000)


def duration_s(value: float) -> str:
    """A duration of seconds or more."""
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def milliseconds(value_us: float) -> str:
    """Microseconds as milliseconds without a unit, for a column whose heading has it."""
    value = value_us / 1000
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def size(value: int) -> str:
    """Bytes in the unit in which they read best."""
    amount = float(value)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def money(microusd: int) -> str:
    """Micro-USD as dollars, with as many digits as say something."""
    dollars = microusd / 1_000_000
    return f"{dollars:,.2f}" if dollars >= 1 or not dollars else f"{dollars:.4f}"


def ago(value: datetime, now: datetime) -> str:
    """How long ago something was, or how soon it will be."""
    seconds = (now - value).total_seconds()
    text = next((f"{abs(seconds) / unit:.0f} {word}" for unit, word in _UNITS_S if abs(seconds) >= unit), "")
    if not text:
        text = f"{abs(seconds):.0f} s"
        if seconds < 1.5 and seconds > -1.5:
            return "just now"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def when(value: datetime | None) -> Markup:
    """A relative time with the exact one on hover; a dash for never."""
    if value is None:
        return Markup('<span class="soft">never</span>')
    exact = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        exact.isoformat(), exact.strftime("%Y-%m-%d %H:%M:%S"), ago(exact, datetime.now(UTC))
    )


def sentence(text: str) -> Markup:
    """A message as a sentence: its first letter large, a mark at its end, what stands in backticks as code.

    Names in it stay as they are written, and every other character is text.
    """
    whole = f"{text[:1].upper()}{text[1:]}{'' if not text or text[-1] in '.!?:' else '.'}"
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(whole))))  # noqa: S704 - escaped before


def short(digest: str | None) -> str:
    """The beginning of a digest, enough to tell releases apart."""
    return digest[:12] if digest else ""
