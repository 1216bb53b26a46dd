"""`Identity`: who is calling. Keys live in PostgreSQL, and every process answers from a snapshot in memory.

`authenticate` touches no database: a key revoked anywhere is refused here within a second (NOTIFY ``roadbed_key``; a
poll every `POLL_S` catches what a lost connection missed), and during an outage the last snapshot goes on. A process
that never read a snapshot recognises nobody. The invariant: unknown, expired and revoked keys get one and the same
answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final

from roadbed.guard.certificate_manifest import CertificateConfig
from roadbed.guard.certificates import CERTIFICATE_PREFIX, CertificateDisagrees, Certificates, CertificateUnknown
from roadbed.guard.duties import AS_TEAM_MARK, Actor, line_of
from roadbed.guard.glasses import Glasses
from roadbed.guard.keys import (
    ADMIN_KEY_ID,
    KEY_BYTES_MAX,
    OWN_KEY_NAME,
    SCIM_SCOPE,
    IdentityNotReady,
    KeyMissing,
    KeyNotFound,
    KeyRecord,
    KeyRefused,
    KeyRequestInvalid,
    LastAdminKey,
    check_admin_key,
    check_key_request,
    digest_of,
    new_key,
    new_value,
)
from roadbed.guard.networks import check_networks
from roadbed.guard.people import CHANNEL, PERSON_PREFIX, TOKEN_PREFIX, People
from roadbed.guard.tokens import TokenReader, TokenRefused
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.kernel.limits import parse_budget
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal
from roadbed.store.database import Connection, Database
from roadbed.wire.peer_certificate import PeerCertificate

POLL_S: Final = 5.0
LAST_USED_EVERY_S: Final = 60.0
STOP_S: Final = 5.0
KEYS_LISTED_MAX: Final = 10_000
OVERLAP_MAX: Final = timedelta(days=30)

logger = logging.getLogger(__name__)


class _Entry:
    """A live key as `authenticate` needs it."""

    __slots__ = ("digest", "expires", "is_newest", "may_change", "person", "principal")

    def __init__(
        self,
        digest: bytes,
        record: KeyRecord,
        principal: Principal,
        until: datetime | None,
        *,
        is_newest: bool = False,
    ) -> None:
        self.digest = digest
        self.is_newest = is_newest
        self.expires = until
        # Which of its two values a caller showed is not kept, so both are taken for one that ends.
        self.may_change = record.expires is not None or record.previous_until is not None
        self.principal = principal
        self.person = record.person


class Identity:
    """The keys of a deployment. `start` it, or use it as an async context manager."""

    def __init__(self, database: Database, *, clock: Clock = SYSTEM_CLOCK, poll_s: float = POLL_S) -> None:
        self.tokens: TokenReader | None = None
        self.people = People(database, clock)
        self.glasses = Glasses(database, clock)
        self.certificates = Certificates()
        self.holds_secret: Callable[[str], bool] = lambda text: False  # set when there is a guard
        self._database = database
        self._clock = clock
        self._poll_s = poll_s
        self._by_digest: dict[bytes, _Entry] | None = None
        self._by_id: dict[str, _Entry] = {}
        self._used: set[str] = set()
        self._used_written_s = clock.monotonic_s()
        self._changed = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._withheld: set[bytes] = set()
        self._on_change: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Read the keys and keep them fresh. When the database is away, goes on trying in the background."""
        await self._try_refresh()
        self._task = asyncio.create_task(self._keep_fresh(), name="identity")
        self._task.add_done_callback(_report_crash)

    async def stop(self) -> None:
        """Stop refreshing, after a last word on which keys were used."""
        task, self._task = self._task, None
        if task is not None:
            # Let a statement that is under way end: what is cancelled half-way costs its connection.
            self._stopping.set()
            self._changed.set()
            try:
                await asyncio.wait_for(task, STOP_S)
            except TimeoutError:
                logger.warning("reading the keys did not end within %g s and was cancelled", STOP_S)
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            await self._write_last_used()

    async def __aenter__(self) -> Identity:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def is_ready(self) -> bool:
        """Whether the keys were read since the start."""
        return self._by_digest is not None

    # -- the request path ---------------------------------------------------------------------------------------------

    def authenticate(self, presented: bytes | str | None) -> Principal:
        """The caller who presents this key. `KeyMissing`, `KeyRefused`, `IdentityNotReady`."""
        if not presented:
            raise KeyMissing("this address needs a key")
        if isinstance(presented, str):
            presented = presented.encode("utf-8", "surrogateescape")
        if self.tokens is not None and self.tokens.is_token(presented):
            caller = self.tokens.authenticate(presented)
            if self.people.refuses_token(caller.id):
                raise TokenRefused
            return self.glasses.raised(caller) if self.glasses.is_any_broken else caller
        entries = self._by_digest
        if entries is None:
            raise IdentityNotReady("the keys have not been read yet")
        if len(presented) > KEY_BYTES_MAX:
            raise KeyRefused
        digest = hashlib.sha256(presented).digest()
        entry = entries.get(digest)
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            raise KeyRefused
        return self._admit(entry)

    def vouched_for(self, certificate: PeerCertificate, presented: bytes = b"") -> Principal:
        """The caller on a connection with this certificate, who may present a key of the same team, too: then that
        key's caller. As `authenticate`, and `CertificateUnknown`, `CertificateAmbiguous`, `CertificateDisagrees`.
        """
        service = self.certificates.of(certificate, self._clock.wall().timestamp())
        if presented:
            caller = self.authenticate(presented)
            if service is not None and service.team != caller.team:
                raise CertificateDisagrees
            return caller
        if service is None:
            raise CertificateUnknown
        return service

    def take_certificates(self, config: Mapping[str, CertificateConfig]) -> None:
        """Know these services by their certificates from now on. Raises `ConfigError`."""
        if self.certificates.take(config) and self._by_digest is not None:
            self._put(dict(self._by_digest))

    @property
    def keys_version(self) -> object | None:
        """The snapshot that answers now, to be compared by identity: while it is the same, so is each key's fate, but
        for keys that `may_expire`. None before the first.
        """
        return self._by_digest

    def may_expire(self, principal: Principal) -> bool:
        """Whether the caller's key has a time at which it ends, or is no longer known."""
        entry = self._by_id.get(principal.id)
        return entry is None or entry.may_change or self.glasses.is_any_broken

    def is_live(self, principal_id: str) -> bool:
        """Whether a caller who was let in before would be let in again. All are while the keys were never read."""
        if self._by_digest is None:
            return True
        if principal_id.startswith(PERSON_PREFIX):
            return self.people.is_active(principal_id)
        if principal_id.startswith(TOKEN_PREFIX):
            return not self.people.refuses_token(principal_id)
        if principal_id.startswith(CERTIFICATE_PREFIX):
            return self.certificates.of_id(principal_id) is not None
        entry = self._by_id.get(principal_id)
        return entry is not None and (entry.expires is None or self._clock.wall() < entry.expires)

    @property
    def has_budgets(self) -> bool:
        """Whether some live key has a budget of its own."""
        return any(entry.principal.budget for entry in self._by_id.values())

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a key or a person may have ended, in the loop's thread."""
        self._on_change.append(callback)

    def withhold(self, value: bytes) -> str | None:
        """Refuse a key's value from now on in this process, as it is known to more than its owner: the key's id, None
        where it opens nothing. `revoke_exposed` ends it everywhere.
        """
        digest, entries = digest_of(value), self._by_digest or {}
        entry = entries.get(digest)
        if entry is None or not hmac.compare_digest(entry.digest, digest):
            return None
        self._withheld.add(digest)
        self._put({known: one for known, one in entries.items() if known != digest})
        return entry.principal.id

    def principals(self) -> list[Principal]:
        """Everyone who is live, for whoever explains access."""
        known = [*self.people.principals(), *self.certificates.principals()]
        return [*(entry.principal for entry in self._by_id.values()), *known]

    def owners_of(self, principal: Principal) -> tuple[str, ...]:
        """The ids under which things may belong to whoever calls, the first one best: a person's, by whichever key,
        session or token they come; else the caller's own.
        """
        entry = self._by_id.get(principal.id)
        return self.people.owners_of(entry.person if entry is not None and entry.person else principal.id)

    def names_of(self, principal: Principal) -> tuple[str, ...]:
        """What a caller is called, for whoever looks for what is kept of a person."""
        entry = self._by_id.get(principal.id)
        names = self.people.names_of(entry.person if entry is not None and entry.person else principal.id)
        return tuple(dict.fromkeys(name for name in (principal.name, *names) if name))

    def note_used(self, principal: Principal) -> None:
        """A key was used again, by a caller whom `authenticate` has let in before."""
        self._used.add(principal.id)

    def principal_of(self, key_id: str, since: float | None = None) -> Principal:
        """The caller behind a live key's or a person's id, for sessions that began at ``since``. As `authenticate`."""
        if self._by_digest is None:
            raise IdentityNotReady("the keys have not been read yet")
        if key_id.startswith(PERSON_PREFIX):
            return self.glasses.raised(self.people.principal_of(key_id, since))
        service = self.certificates.of_id(key_id)
        if service is not None:
            return service
        entry = self._by_id.get(key_id)
        if entry is None:
            raise KeyRefused
        return self._admit(entry)

    async def actor_of(self, principal: Principal) -> Actor:
        """Who a caller may be: its person, and everyone who has seen its key's value, up the line; ended keys too.
        `StoreUnavailable`.
        """
        rows = await self._database.fetch(
            "WITH RECURSIVE line AS (SELECT id, person, acts_as, made_by FROM api_key WHERE id = $1 UNION"
            " SELECT k.id, k.person, k.acts_as, k.made_by FROM line JOIN api_key k"
            " ON k.id = ANY(line.made_by) OR k.id = line.acts_as) SELECT * FROM line LIMIT $2",
            *(principal.id.partition(AS_TEAM_MARK)[0], KEYS_LISTED_MAX),
        )
        keys = {row["id"]: (row["person"] or "", row["acts_as"] or "", tuple(row["made_by"])) for row in rows}
        person = principal.id if principal.id.startswith(PERSON_PREFIX) else self.people.person_of_token(principal.id)
        names, line = line_of(principal.id, keys, person)
        is_person = any(name.startswith(PERSON_PREFIX) for name in names)
        breaks_glass = self.glasses.of(principal.id) is not None
        return Actor(principal.id, principal.name or principal.id, names, line, is_person, breaks_glass)

    def _admit(self, entry: _Entry) -> Principal:
        if entry.expires is not None and self._clock.wall() >= entry.expires:
            raise KeyRefused
        self._used.add(entry.principal.id)
        return self.glasses.raised(entry.principal) if self.glasses.is_any_broken else entry.principal

    # -- administration -----------------------------------------------------------------------------------------------

    async def create_key(
        self,
        *,
        team: str,
        roles: Iterable[str] = (MEMBER,),
        apps: Iterable[str] | None = None,
        models: Iterable[str] | None = None,
        networks: Iterable[str] = (),
        name: str = "",
        expires: datetime | None = None,
        budget: str = "",
        scopes: Iterable[str] | None = None,
        person: str = "",
        maker: Principal | None = None,
        acts_as: str = "",
    ) -> tuple[KeyRecord, str]:
        """Make a key: its record and, this once, its plaintext. With ``person``, it ends with that person's account;
        one that is made in an emergency ends with that. ``acts_as`` is the key whose holder it stands for.
        `KeyRequestInvalid`, `ConfigError` for its budget.
        """
        if budget:
            parse_budget("key:new", budget)
        granted, ranges = frozenset(roles), check_networks(networks)
        called_apps = sorted(apps) if apps is not None else None
        called_models = sorted(models) if models is not None else None
        uses = frozenset(scopes) if scopes is not None else None
        check_key_request(team, granted, name, (*(called_apps or ()), *(called_models or ())), uses)
        self._check_names(team=team, name=name, apps=called_apps or (), models=called_models or ())
        if person:
            self.people.principal_of(person)
        if expires is not None and (expires.tzinfo is None or expires <= self._clock.wall()):
            raise KeyRequestInvalid("a key expires at a time in the future, with its time zone", param="expires")
        key_id, plaintext = new_key()
        self._check_emergency(maker, granted, uses)
        glass = self.glasses.of(maker.id) if maker is not None else None
        if glass is not None:
            expires = min(expires, glass.ends) if expires is not None else glass.ends
        made_by = await self._names_of(maker)
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "INSERT INTO api_key (id, digest, name, team, roles, apps, expires, models, networks, budget, scopes,"
                " person, made_by, acts_as) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
                " RETURNING *",
                *(key_id, digest_of(plaintext.encode()), name, team, sorted(granted)),
                *(called_apps, expires, called_models, ranges, budget),
                *(sorted(uses) if uses is not None else None, person or None, made_by, acts_as or None),
            )
            await self._database.notify(CHANNEL, key_id, connection=connection)
        await self.refresh()
        logger.info("key %s was created", key_id)
        return _record(row), plaintext

    def _check_names(self, *, team: str, name: str, apps: Iterable[str], models: Iterable[str]) -> None:
        for param, texts in (("team", (team,)), ("name", (name,)), ("apps", apps), ("models", models)):
            if any(map(self.holds_secret, texts)):
                hint = "names are stored and shown as they are; leave it out, and replace it where it was used"
                raise KeyRequestInvalid(f"{param}: a secret stands in it", hint=hint, param=param)

    def _check_emergency(self, maker: Principal | None, roles: frozenset[str], scopes: frozenset[str] | None) -> None:
        """`KeyRequestInvalid` for a key by which rights that an emergency gives would outlast it."""
        if maker is None or self.glasses.of(maker.id) is None or self.glasses.base(maker).is_admin:
            return
        if roles & {ADMIN, AUDITOR} or SCIM_SCOPE in (scopes or ()):
            hint = "a member's key without the scope scim can be made; it ends with the break-glass"
            raise KeyRequestInvalid("rights that a break-glass gives are not made to last by a key", hint=hint)

    async def _names_of(self, maker: Principal | None) -> list[str]:
        return sorted((await self.actor_of(maker)).names) if maker is not None else []

    async def rotate_key(
        self, key_id: str, overlap: timedelta = timedelta(), *, maker: Principal | None = None
    ) -> tuple[KeyRecord, str]:
        """Give a key a new value, shown this once to ``maker``; the one before it stays good for ``overlap``.

        Everything else stays: its id, and with it budgets, permissions and sessions. A key that expires lives on as
        long as it did at first. `KeyNotFound`, `KeyRequestInvalid`.
        """
        if key_id == ADMIN_KEY_ID:
            hint = "change ROADBED_ADMIN_KEY, or make another admin key and revoke this one"
            raise KeyRequestInvalid("the first admin key is not rotated", hint=hint, param="id")
        if not timedelta() <= overlap <= OVERLAP_MAX:
            raise KeyRequestInvalid(f"an overlap is at most {OVERLAP_MAX.days} days", param="overlap")
        now, plaintext = self._clock.wall(), new_value(key_id)
        made_by = await self._names_of(maker)
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "UPDATE api_key SET digest = $2, previous_digest = CASE WHEN $4 THEN digest END, previous_until ="
                " CASE WHEN $4 THEN least($5, expires) END, expires = $3 + (expires - coalesce(rotated, created)),"
                " rotated = $3, made_by = array(SELECT DISTINCT unnest(made_by || $6::text[]))"
                " WHERE id = $1 AND revoked IS NULL AND (expires IS NULL OR expires > $3) RETURNING *",
                *(key_id, digest_of(plaintext.encode()), now, overlap > timedelta(), now + overlap, made_by),
            )
            if row is None:
                raise KeyNotFound(f"there is no live key {key_id[:40]!r}")
            self._check_emergency(maker, frozenset(row["roles"]), frozenset(row["scopes"] or ()))
            await self._database.notify(CHANNEL, key_id, connection=connection)
        await self.refresh()
        logger.info("key %s was rotated", key_id)
        return _record(row), plaintext

    async def list_keys(self) -> list[KeyRecord]:
        """All keys, newest first, revoked ones too."""
        rows = await self._database.fetch("SELECT * FROM api_key ORDER BY created DESC, id LIMIT $1", KEYS_LISTED_MAX)
        return [_record(row) for row in rows]

    async def revoke_key(self, key_id: str) -> KeyRecord:
        """End a key for good, and with it the sessions opened with it. `KeyNotFound`, `LastAdminKey`."""
        async with self._database.transaction() as connection:
            await _lock_admin_keys(connection)
            row = await connection.fetchrow(
                "UPDATE api_key SET revoked = now() WHERE id = $1 AND revoked IS NULL RETURNING *",
                key_id,
            )
            if row is None:
                raise KeyNotFound(f"there is no live key {key_id[:40]!r}")
            is_admin = ADMIN in row["roles"] and row["name"] != OWN_KEY_NAME
            if is_admin and not await _has_live_admin(connection, self._clock.wall()):
                raise LastAdminKey(f"{key_id} is the last live admin key")
            await self._database.notify(CHANNEL, key_id, connection=connection)
        await self.refresh()
        logger.info("key %s was revoked", key_id)
        return _record(row)

    async def revoke_exposed(self, value: bytes) -> bool:
        """End for good what a value opens: its key, or, where it is the one before a rotation, that value alone. Even
        the last admin key. Whether it opened anything. `StoreUnavailable`.
        """
        digest = digest_of(value)
        async with self._database.transaction() as connection:
            await _lock_admin_keys(connection)
            key_id = await connection.fetchval(
                "UPDATE api_key SET revoked = now() WHERE digest = $1 AND revoked IS NULL RETURNING id", digest
            ) or await connection.fetchval(
                "UPDATE api_key SET previous_digest = NULL, previous_until = NULL WHERE previous_digest = $1"
                " RETURNING id",
                digest,
            )
            if key_id is not None:
                await connection.execute(
                    "INSERT INTO exposed_key (digest, key_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", digest, key_id
                )
                await self._database.notify(CHANNEL, key_id, connection=connection)
        self._withheld.discard(digest)
        await self.refresh()
        return key_id is not None

    async def ensure_admin_key(self, value: str | None = None) -> str | None:
        """Make sure that somebody can administer. The plaintext when a key was made here, to be shown once.

        ``value`` (from ROADBED_ADMIN_KEY) becomes the first admin key, in place of the value that it had before.
        Without it, or where it stood in an address once, a key is made only when no admin key is live. `AdminKeyWeak`.
        """
        chosen = check_admin_key(value) if value is not None else None
        if chosen is not None and await self._was_exposed(chosen.encode()):
            logger.critical("ROADBED_ADMIN_KEY stood in an address and was revoked: it opens nothing, choose another")
            chosen = None
        plaintext = chosen if chosen is not None else new_key()[1]
        digest = digest_of(plaintext.encode())
        async with self._database.transaction() as connection:
            await _lock_admin_keys(connection)
            if chosen is None and await _has_live_admin(connection, self._clock.wall()):
                return None
            if chosen is not None:
                # The same value under another id would be ambiguous; the operator's word decides.
                await connection.execute(
                    "UPDATE api_key SET revoked = coalesce(revoked, now()), digest = sha256(digest)"
                    " WHERE digest = $1 AND id <> $2",
                    *(digest, ADMIN_KEY_ID),
                )
            await connection.execute(
                "INSERT INTO api_key (id, digest, name, team, roles) VALUES ($1, $2, 'first admin key', 'admin', $3)"
                " ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, roles = excluded.roles, revoked = NULL,"
                " expires = NULL, created = CASE WHEN api_key.digest = excluded.digest THEN api_key.created"
                " ELSE now() END",
                *(ADMIN_KEY_ID, digest, [ADMIN, MEMBER]),
            )
            await self._database.notify(CHANNEL, ADMIN_KEY_ID, connection=connection)
        await self.refresh()
        return plaintext if chosen is None else None

    # -- the snapshot -------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the live keys now. `StoreUnavailable`."""
        async with self._refreshing:
            rows = await self._database.fetch(
                "SELECT api_key.* FROM api_key LEFT JOIN person ON person.id = api_key.person WHERE revoked IS NULL"
                " AND (api_key.person IS NULL OR person.active)"
            )
            await self.people.read()
            await self.glasses.read()
            entries: dict[bytes, _Entry] = {}
            for row in rows:
                record, digest, previous = _record(row), bytes(row["digest"]), row["previous_digest"]
                principal = record.principal()
                if previous is not None:
                    entries[bytes(previous)] = _Entry(bytes(previous), record, principal, record.previous_until)
                entries[digest] = _Entry(digest, record, principal, record.expires, is_newest=True)
            self._put({digest: entry for digest, entry in entries.items() if digest not in self._withheld})

    def _put(self, entries: dict[bytes, _Entry]) -> None:
        """Answer by these from now on. A key lives by its newest value, whatever becomes of the one before."""
        self._by_id = {entry.principal.id: entry for entry in entries.values() if entry.is_newest}
        self._by_digest = entries
        for told in self._on_change:
            told()

    async def _was_exposed(self, value: bytes) -> bool:
        found: bool = await self._database.fetchval(
            "SELECT EXISTS (SELECT FROM exposed_key WHERE digest = $1)", digest_of(value)
        )
        return found

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except (Unavailable, DeadlineExceeded) as error:
            state = "the last snapshot goes on" if self.is_ready else "nobody is recognised yet"
            logger.warning("the keys cannot be read (%s): %s", error.code, state)

    async def _keep_fresh(self) -> None:
        subscription = None
        try:
            while not self._stopping.is_set():
                if subscription is None:
                    with contextlib.suppress(Unavailable, DeadlineExceeded):
                        subscription = await self._database.listen(CHANNEL, lambda payload: self._changed.set())
                        self._changed.set()  # what changed before the subscription
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._poll_s)
                if self._stopping.is_set():
                    break
                self._changed.clear()
                await self._try_refresh()
                if self._clock.monotonic_s() - self._used_written_s >= LAST_USED_EVERY_S:
                    with contextlib.suppress(Unavailable, DeadlineExceeded):
                        await self._write_last_used()
        finally:
            if subscription is not None:
                await subscription.close()

    async def _write_last_used(self) -> None:
        used, self._used = self._used, set()
        self._used_written_s = self._clock.monotonic_s()
        if used:
            await self._database.execute("UPDATE api_key SET last_used = now() WHERE id = ANY($1)", sorted(used))


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("keys are no longer refreshed: revoked ones stay valid here", exc_info=task.exception())


async def _lock_admin_keys(connection: Connection) -> None:
    """One change of who is admin at a time, over all processes."""
    await connection.execute("LOCK TABLE api_key IN SHARE ROW EXCLUSIVE MODE")


async def _has_live_admin(connection: Connection, now: datetime) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM api_key WHERE revoked IS NULL AND $1 = ANY(roles) AND name <> $3"
        " AND (expires IS NULL OR expires > $2))",
        *(ADMIN, now, OWN_KEY_NAME),
    )
    return found


def _record(row: Any) -> KeyRecord:
    return KeyRecord(
        id=row["id"],
        name=row["name"],
        team=row["team"],
        roles=frozenset(row["roles"]),
        apps=frozenset(row["apps"]) if row["apps"] is not None else None,
        created=row["created"],
        expires=row["expires"],
        revoked=row["revoked"],
        last_used=row["last_used"],
        models=frozenset(row["models"]) if row["models"] is not None else None,
        networks=tuple(row["networks"]),
        previous_until=row["previous_until"],
        rotated=row["rotated"],
        budget=row["budget"],
        scopes=frozenset(row["scopes"]) if row["scopes"] is not None else None,
        person=row["person"] or "",
    )
