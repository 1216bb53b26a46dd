"""What an account of MySQL or MariaDB may do beyond reading, and the statements that make one which only reads. Pure.

Unlike PostgreSQL's, a read-only transaction of these servers does not stop everything that an account may do (files,
global settings, other people's sessions), so a source whose account may do more than read answers no statements of
tools until it is mended. ``SHOW GRANTS`` is asked once, on the first connection of a pool.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roadbed.sources.mysql_text import quoted_name
from roadbed.sources.rights import READER, Warned

# What an account that only reads has. SHOW VIEW lets it see the text of views that it may read anyway.
_HARMLESS = {"USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES"}
_GRANT = re.compile(r"GRANT (?P<privileges>.+?) ON (?:(?:TABLE|FUNCTION|PROCEDURE) )?(?P<on>\S+) TO ", re.DOTALL)
_ROLE = re.compile(r"GRANT [`'\"][^ ]+ TO ")
_COLUMNS = re.compile(r"\([^)]*\)")
NAMED_MAX = 6


@dataclass(frozen=True, slots=True)
class MysqlRights:
    """What the account of a source may do that reading does not need; ``excess`` is empty when it only reads."""

    account: str
    database: str
    excess: tuple[str, ...]


def rights_of(account: str, database: str, grants: Iterable[str]) -> MysqlRights:
    """The rights in the lines of ``SHOW GRANTS``. What is not understood counts as too much."""
    excess: dict[str, None] = {}
    for line in grants:
        found = _GRANT.match(line)
        if found is not None:
            privileges = [part.strip() for part in _COLUMNS.sub("", found["privileges"]).split(",")]
            excess.update(dict.fromkeys(part for part in privileges if part not in _HARMLESS))
            if "WITH GRANT OPTION" in line[found.end() :]:
                excess["GRANT OPTION"] = None
        elif _ROLE.match(line):
            excess["rights of a role"] = None
        elif not line.startswith(("SET DEFAULT ROLE", "REVOKE")):
            excess["rights that are not known here"] = None
    return MysqlRights(account, database, tuple(excess))


def mysql_warning(rights: MysqlRights, tables: Sequence[str]) -> Warned | None:
    """What is wrong with an account that can do more than read; None when it cannot."""
    if not rights.excess:
        return None
    named = ", ".join(rights.excess[:NAMED_MAX]) + (" and more" if len(rights.excess) > NAMED_MAX else "")
    return Warned(
        f"its account {rights.account} also has {named}; tools are not run until it only reads",
        mysql_reader_statements(rights.database, tables),
    )


def mysql_reader_statements(database: str, tables: Sequence[str]) -> tuple[str, ...]:
    """The statements that make an account which reads these tables, or the whole database when there are none."""
    account = f"'{READER}'@'%'"
    reads = [name if "." in name else f"{database}.{name}" for name in sorted(tables)]
    return (
        f"CREATE USER {account} IDENTIFIED BY '...' WITH MAX_USER_CONNECTIONS 16;",
        *(f"GRANT SELECT ON {quoted_name(name)} TO {account};" for name in reads),
        *(() if reads else (f"GRANT SELECT ON {quoted_name(database)}.* TO {account};",)),
    )
