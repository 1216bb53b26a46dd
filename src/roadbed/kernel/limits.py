"""How limits are written in the manifest: ``200 USD/month``, ``600/min``, ``100k/min``, ``90%``. Pure.

Budgets are read to micro-USD, never through a float. Who limits what is no business of this file. The invariant: a text
that fits a pattern below is a limit that parses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from roadbed.kernel.errors import ConfigError

PeriodUnit = Literal["day", "week", "month"]
MICROUSD_PER_USD = 1_000_000
BUDGET_PATTERN = r"^(\d{1,9}(?:\.\d{1,6})?) ?USD ?/ ?(day|week|month)$"
RATE_PATTERN = r"^(\d{1,9}(?:\.\d{1,3})?)([kKmM]?) ?/ ?(s|sec|min|h|hour|day)$"
PERCENT_PATTERN = r"^(100|[1-9]?\d)%$"
_BUDGET, _RATE, _PERCENT = re.compile(BUDGET_PATTERN), re.compile(RATE_PATTERN), re.compile(PERCENT_PATTERN)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}
_PERIODS_S = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "day": 86_400.0}


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap on money in each calendar period (UTC). ``id`` names whose it is and its period."""

    id: str
    cap_microusd: int
    unit: PeriodUnit

    @property
    def title(self) -> str:
        """As messages name it: ``the budget of team support``."""
        kind, _, name = self.id.partition("/")[0].partition(":")
        return f"the budget of {kind} {name}"


def parse_budget(owner: str, text: str) -> Budget:
    """``200 USD/month`` for an owner such as ``team:support``. Raises `ConfigError`."""
    match = _BUDGET.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text[:40]!r} is not a budget", hint=f"write for example 200 USD/month; {_units()}")
    unit: PeriodUnit = match[2]  # type: ignore[assignment]  # the pattern allows no other
    return Budget(f"{owner}/{unit}", int(Decimal(match[1]) * MICROUSD_PER_USD), unit)


def parse_rate(text: str) -> tuple[int, float]:
    """``600/min`` as (units, seconds); ``100k`` are thousands, ``2m`` or ``2M`` millions. Raises `ConfigError`."""
    match = _RATE.fullmatch(text.strip())
    limit = int(Decimal(match[1]) * _FACTORS[match[2].lower()]) if match is not None else 0
    if match is None or limit < 1:
        raise ConfigError(f"{text[:40]!r} is not a rate", hint="write for example 600/min, 100k/min, 2m/min or 10/s")
    return limit, _PERIODS_S[match[3]]


def parse_percent(text: str) -> int:
    """``90%`` as 90. Raises `ConfigError`."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text[:20]!r} is not a share", hint="write for example 90%")
    return int(match[1])


def _units() -> str:
    return "the period is one of " + ", ".join(get_args(PeriodUnit))
