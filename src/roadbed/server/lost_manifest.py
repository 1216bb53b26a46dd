"""A start without ``roadbed.yaml`` on a database that an own manifest filled: refused, for every key would see all.

Without a manifest a folder is served whole, to every key. `refuse_lost` compares what the database knows with that:
another source, one that not everybody may see or that carries other labels, or another app was declared by somebody.
It reads before the migrations run, so it asks only for tables and columns that were there from the first one on.
"""

from __future__ import annotations

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import parse_label
from roadbed.kernel.principal import EVERYONE
from roadbed.releases.compile import ROUTES
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import MANIFEST_NAME, Workspace
from roadbed.server.canary_objects import SOURCES
from roadbed.store.database import Database

SCHEMAS_MAX = 100
NAMES_SHOWN = 3

_SCHEMAS_SQL = (
    "SELECT n.nspname FROM pg_namespace n WHERE (n.nspname = $1 OR $2) AND has_schema_privilege(n.oid, 'USAGE') "
    "AND (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r' "
    "AND c.relname IN ('workspace', 'source', 'acl_member', 'alias')) = 4 ORDER BY n.nspname LIMIT $3"
)


class ManifestLost(ConfigError):
    """There is no manifest any more, and the database knows what one declared: served without, every key sees all."""

    code = "server.manifest_lost"
    hint = "bring roadbed.yaml back from git; to serve the whole folder to every key, write that down: `roadbed init`"


async def refuse_lost(database: Database, workspace: Workspace, *, is_own: bool) -> None:
    """Raise `ManifestLost` where ``workspace`` was inferred and the database knows more than it says.

    ``is_own`` says that the whole database is this state's: then what a manifest of another name left counts, too.
    """
    if not workspace.is_inferred:
        return
    for row in await database.fetch(_SCHEMAS_SQL, database.schema, is_own, SCHEMAS_MAX):
        reasons = await _known_beyond(database, row["nspname"], workspace.manifest)
        if reasons:
            shown = ", ".join(reasons[:NAMES_SHOWN]) + (", ..." if len(reasons) > NAMES_SHOWN else "")
            raise ManifestLost(
                f"{workspace.folder} has no {MANIFEST_NAME}, but the database was filled by one: {shown}"
            )


async def _known_beyond(database: Database, schema: str, manifest: Manifest) -> list[str]:
    """What was declared that an inferred manifest does not say, in words."""
    quoted = '"' + schema.replace('"', '""') + '"'
    sources = await database.fetch(
        f"SELECT s.name, s.label, EXISTS (SELECT 1 FROM {quoted}.acl_member m WHERE m.acl_id = s.acl_id "  # noqa: S608
        f"AND m.group_name = $1) AS is_open FROM {quoted}.source s WHERE s.is_declared ORDER BY s.name",
        EVERYONE,
    )
    reasons = []
    for row in sources:
        declared = manifest.sources.get(row["name"])
        if row["name"] in SOURCES:
            continue
        if not row["is_open"]:
            reasons.append(f"the source {row['name']} for some teams alone")
        elif declared is None:
            reasons.append(f"the source {row['name']}")
        elif list(row["label"]) != parse_label(declared.labels).words():
            reasons.append(f"other labels of the source {row['name']}")
    apps = await database.fetch(f"SELECT app FROM {quoted}.alias WHERE name = 'live' ORDER BY app")  # noqa: S608
    reasons += [f"the app {row['app']}" for row in apps if row["app"] not in {ROUTES, *manifest.apps}]
    return reasons
