"""What can go wrong with a source, as typed errors. Raised by this room alone, caught by ``knowledge/`` and tools.

The difference between them is what to do next: wait (`SourceUnavailable`), give it more connections (`SourceBusy`), ask
for less (`SourceTimeout`, `ResultTooLarge`), mend the manifest (`SourceMisdeclared`, `CredentialsRefused`) or the
statement (`QueryRefused`). The invariant: no message holds a credential, a value or a row.
"""

from __future__ import annotations

from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, RoadbedError, TooLarge, Unavailable


class SourceUnavailable(Unavailable):
    """A source does not answer; what was read from it before stays searchable."""

    code = "sources.unavailable"
    hint = "check that the database runs and that the manifest's dsn or path is right"


class SourceBusy(SourceUnavailable):
    """Every connection of a source was in use, or its data locked, for as long as the caller could wait."""

    code = "sources.busy"
    hint = "ask again, or raise connections_max of the source if its database can bear it"


class CredentialsRefused(SourceUnavailable):
    """A source refuses the credentials that the manifest refers to."""

    code = "sources.credentials_refused"
    retryable = False
    hint = "set the value that the manifest's dsn refers to; it is read again at the next try"


class SourceTimeout(DeadlineExceeded):
    """A statement did not end before the deadline; it was stopped in the source."""

    code = "sources.deadline_exceeded"
    hint = "ask for less, add an index, or allow more time"


class SourceMisdeclared(RoadbedError):
    """A declared table or column does not exist in the source, or the role may not read it."""

    code = "sources.misdeclared"
    http_status = 400


class QueryRefused(InvalidRequest):
    """A source refused a statement: it is wrong, it writes, or the role may not run it."""

    code = "sources.query_refused"


class ResultTooLarge(TooLarge):
    """One row of a result is over the bound of the whole result, or it has too many columns."""

    code = "sources.result_too_large"
    hint = "name the columns that are needed, and shorten long ones in the statement"


class QueryTooCostly(QueryRefused):
    """The planner expects a statement to cost more than the source allows."""

    code = "sources.too_costly"
    hint = "ask for less: filter by an indexed column, a shorter period, or fewer joins"


class SourceMayWrite(SourceMisdeclared):
    """The role of a source may do more than read, so that no tool is run with it. The hint holds the statements."""

    code = "sources.may_write"


class RolledBack(SourceUnavailable):
    """A change did not end and was taken back; nothing of it is in the source."""

    code = "sources.rolled_back"
    hint = "ask again; nothing was changed"


class EndUnknown(SourceUnavailable):
    """The connection broke while a change was being committed: it may have taken effect."""

    code = "sources.end_unknown"
    retryable = False
    hint = "look in the source whether it took effect"
