"""`KeyRing`: the several keys of one endpoint, each with a rest of its own.

Healthy keys take turns. One that was throttled or whose quota is spent cools; one that was refused rests longer, and is
then tried again, since keys are restored too. A key's value is compared and given out, never shown: states carry its
place in the manifest's list alone. Pure but for its own state; the clock is the caller's. The invariant: `choose` gives
a key that rests to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from roadbed.gateway.errors import UpstreamError
from roadbed.kernel.secrets import Secret

KEY_FAILURES = frozenset({"auth", "quota", "rate"})
"""Classes that say something about a key, and nothing about the server."""

FORBIDDEN = 403
FORBIDDEN_MAX = 3
"""So many 403 in a row are the key's, or its account's; fewer may be one request that a filter disliked, and one
caller's request must not take an endpoint from all others.
"""

FORBIDDEN_REST_S = 30.0
REFUSED_REST_S = 600.0
QUOTA_REST_S = 600.0
RATE_REST_S = 1.0
REST_S_MAX = 3600.0


@dataclass(slots=True)
class KeyState:
    """One key: how it failed last, and until when it rests."""

    failure: str = ""
    resting_until_s: float = 0.0
    forbidden: int = 0


@dataclass(slots=True)
class KeyRing:
    """The keys of an endpoint in this process."""

    secrets: tuple[Secret, ...]
    _states: list[KeyState] = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        self._states = [KeyState() for _ in self.secrets]

    def holds(self, secrets: tuple[Secret, ...]) -> bool:
        """Whether these are the same keys in the same order."""
        if secrets is self.secrets:
            return True
        return len(secrets) == len(self.secrets) and all(
            own.equals(other.reveal()) for own, other in zip(self.secrets, secrets, strict=True)
        )

    def choose(self, now_s: float) -> int | None:
        """The place of the key whose turn it is; None when all of them rest."""
        count = len(self._states)
        for step in range(count):
            number = (self._next + step) % count
            if self._states[number].resting_until_s <= now_s:
                self._next = (number + 1) % count
                return number
        return None

    def succeeded(self, number: int) -> None:
        """A key was taken."""
        self._states[number].failure = ""
        self._states[number].forbidden = 0

    def failed(self, number: int, error: UpstreamError, now_s: float) -> None:
        """A key was refused, throttled, or its quota is spent."""
        state = self._states[number]
        if error.failure == "auth" and error.status == FORBIDDEN:
            state.forbidden += 1
            rest_s = FORBIDDEN_REST_S if state.forbidden >= FORBIDDEN_MAX else 0.0
        elif error.failure == "auth":
            rest_s = REFUSED_REST_S
        elif error.failure == "quota":
            rest_s = QUOTA_REST_S
        else:
            rest_s = RATE_REST_S if error.retry_after_s is None else error.retry_after_s
        state.failure = error.failure
        state.resting_until_s = max(state.resting_until_s, now_s + min(rest_s, REST_S_MAX))

    def resting_for_s(self, now_s: float) -> float:
        """Seconds until a key may be used; zero when one may be now."""
        return max(min(state.resting_until_s for state in self._states) - now_s, 0.0)

    def states(self, now_s: float) -> list[str]:
        """``ok``, ``cooling`` or ``refused`` for each key, in the manifest's order."""
        return [
            "ok" if state.resting_until_s <= now_s else ("refused" if state.failure == "auth" else "cooling")
            for state in self._states
        ]
