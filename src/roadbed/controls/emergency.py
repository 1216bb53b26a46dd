"""The control that fails until somebody else has looked at each break-glass that was used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from roadbed.controls.control import Fact, Result, judged
from roadbed.controls.standing_checks import HOUR_S
from roadbed.guard.glasses import Glass


class BreakGlassReviewed:
    """Uses of break-glass that nobody but their user has looked at. ``look`` gives those that are not reviewed."""

    id = "break-glass"
    title = "Every break-glass was looked at by somebody else"
    period_s = HOUR_S

    def __init__(self, look: Callable[[], Awaitable[Sequence[Glass]]]) -> None:
        self._look = look

    async def run(self) -> Result:
        """Count them; one that is in force counts."""
        found = await self._look()
        problems = [
            f"rights are raised since {glass.started:%Y-%m-%d %H:%M} UTC: roadbed access break-glass --end {glass.id}"
            if glass.ended is None
            else f"the use of {glass.started:%Y-%m-%d %H:%M} UTC waits for a review: roadbed access review {glass.id}"
            for glass in found
        ]
        facts: dict[str, Fact] = {"unreviewed": len(found), "in_force": sum(glass.ended is None for glass in found)}
        return judged(problems, "none waits for a review", n=len(found), facts=facts)
