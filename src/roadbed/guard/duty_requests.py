"""`DutyRequest`: what waits, or waited, until a second person agrees; rows of ``server/second_person.py``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from roadbed.guard.duties import Actor
from roadbed.store.database import Row

SETTINGS = "_settings"


@dataclass(frozen=True, slots=True)
class DutyRequest:
    """What waits, or waited, for a second person. ``asker`` is None for a saved change that nobody asked for yet."""

    id: str
    duty: str
    subject: str
    digest: str
    asker: str | None
    asker_name: str
    asker_names: frozenset[str]
    asker_lineage: frozenset[str]
    asker_is_person: bool
    said_by: str
    reason: str
    asked: datetime
    expires: datetime
    state: str
    decider: str | None
    decider_name: str
    decided: datetime | None
    note: str

    def actor(self) -> Actor | None:
        """Who asked, to be compared with who agrees; None while nobody has asked for the saved change."""
        if self.asker is None:
            return None
        return Actor(self.asker, self.asker_name, self.asker_names, self.asker_lineage, self.asker_is_person)

    @property
    def what(self) -> str:
        """What is asked for, as a page or a line of the terminal says it."""
        match self.duty:
            case "promotions" if self.subject == SETTINGS:
                return f"let the saved settings serve ({self.digest[:12]})"
            case "promotions":
                return f"promote {self.subject} to {self.digest[:12]}"
            case "models":
                return f"approve the model {self.subject} as it is ({self.digest[:12]})"
            case _:
                return f"no longer ask two persons: {self.subject}"


def request_of(row: Row) -> DutyRequest:
    """One of the rows of ``two_person_request``."""
    values = {name: row[name] for name in DutyRequest.__dataclass_fields__}
    names, line = frozenset(row["asker_names"]), frozenset(row["asker_lineage"])
    return DutyRequest(**{**values, "asker_names": names, "asker_lineage": line})
