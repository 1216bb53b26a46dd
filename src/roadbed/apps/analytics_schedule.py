"""When a saved question runs next: ``6h``, ``1d at 07:00``, ``1w at 07:00``, at the app's clock. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from roadbed.kernel.errors import InvalidRequest

SPAN_H_MAX = 24 * 7 * 8
_SCHEDULE = re.compile(r"(?P<count>[1-9]\d{0,2})(?P<unit>[hdw])(?: at (?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d))?")
_UNITS_H = {"h": 1, "d": 24, "w": 24 * 7}


class ScheduleInvalid(InvalidRequest):
    """A schedule is not written as one, or is too long."""

    code = "apps.schedule_invalid"
    hint = "write 6h, 1d at 07:00, or 1w at 07:00; at most eight weeks"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every so many hours; of whole days at a time of day, in minutes, where one is given."""

    hours: int
    minute_of_day: int | None

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first run after a moment."""
        if self.minute_of_day is None:
            return moment + timedelta(hours=self.hours)
        local = moment.astimezone(zone)
        at = local.replace(hour=self.minute_of_day // 60, minute=self.minute_of_day % 60, second=0, microsecond=0)
        if at <= local:
            at += timedelta(days=1)  # the wall clock's next such time; a longer span counts on from it
        at += timedelta(days=self.hours // 24 - 1)
        return at.astimezone(UTC)


def parse_schedule(text: str) -> Schedule:
    """A schedule from its words. `ScheduleInvalid`."""
    found = _SCHEDULE.fullmatch(text.strip())
    if found is None:
        raise ScheduleInvalid(f"{text[:40]!r} is no schedule", param="every")
    hours = int(found["count"]) * _UNITS_H[found["unit"]]
    if hours > SPAN_H_MAX or (found["hour"] is not None and found["unit"] == "h"):
        raise ScheduleInvalid(f"{text[:40]!r} cannot be a schedule", param="every")
    minute = int(found["hour"]) * 60 + int(found["minute"]) if found["hour"] is not None else None
    return Schedule(hours, minute)
