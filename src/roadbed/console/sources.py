"""What pages share about sources: which of their facts a caller may see, and whether they are at work.

Names of documents are as confidential as the documents, so lists of failures are for admins; everybody else reads
them in the list of documents, which asks for permissions row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from roadbed.kernel.principal import Principal
from roadbed.knowledge.states import SourceState, states_for

BUSY_STATES = ("new", "listing", "indexing")


def visible_states(states: Sequence[SourceState], principal: Principal) -> list[SourceState]:
    """The sources as this caller may see them: as `states_for`, and names of documents for admins alone."""
    known = states_for(states, principal)
    return known if principal.is_admin else [replace(state, failures=(), not_taken=()) for state in known]


def is_busy(states: Sequence[SourceState] | None) -> bool:
    """Whether something moves by itself, so that the page is worth reading again."""
    return any(state.state in BUSY_STATES for state in states or ())


def done_share(state: SourceState) -> float:
    """How much of a source was dealt with, 0 to 1."""
    return state.done / state.listed if state.listed else 0.0
