"""`SqlRefused`: why a statement may not run, in words that a model can mend its statement by. Raised by this folder alone.

The invariant: a message names the node, function, table or column and an allowed form; it holds no value of a row.
"""

from __future__ import annotations

from roadbed.kernel.errors import InvalidRequest


class SqlRefused(InvalidRequest):
    """A statement does more than read the tables and columns that the caller may read, or is not understood."""

    code = "tools.sql_refused"
    hint = "write one SELECT over the tables of the source, with plain columns and listed functions"
