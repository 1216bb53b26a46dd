"""`AuditTrail`: the audit of one process as the server uses it: who did what, checkpoints, and the copies of them.

`doing` is the one way in which a privileged act is carried out: recorded before it is done, and its outcome after. The
owner signs a checkpoint every `audit.every` and ships it. The invariant: an act that could not be recorded was not
done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from roadbed import __version__
from roadbed.guard.deployment_secrets import load_deployment_secret
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError, DeadlineExceeded, RoadbedError, Unavailable
from roadbed.kernel.ids import new_id
from roadbed.ledger.audit import Audit
from roadbed.ledger.audit_checkpoint import AuditBroken, Checkpointer
from roadbed.ledger.audit_export import AuditReader
from roadbed.ledger.audit_keys import KeyChange, SigningKeys
from roadbed.ledger.audit_record import Pseudonyms, event_of
from roadbed.ledger.audit_verify import ROTATION_ACTION
from roadbed.ledger.manifest import AuditConfig
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.server.audit_shipping import Shipping
from roadbed.server.settings import Settings
from roadbed.store.database import Database

log = logging.getLogger("roadbed.audit")

PSEUDONYM_SECRET = "audit_pseudonyms"  # noqa: S105 - its name
LAST_CHECKPOINT_S = 5.0
SUFFIXES = {"POST": "create", "PUT": "put", "PATCH": "change", "DELETE": "delete"}
NOT_PERSONS = frozenset({"system", "workspace", "unknown"})
T = TypeVar("T")


def act_name(method: str, path: str, values: Iterable[object]) -> tuple[str, str]:
    """What a call of an address is named, and on what it acts: ``keys.rotate`` and the key's id."""
    named = [str(value) for value in values]
    parts = path.strip("/").split("/")[1:]
    words = [part.replace("-", "_") for part in parts if part not in named]
    if len(words) == 1 or parts[-1] in named:
        words.append(SUFFIXES.get(method, method.lower()))
    return ".".join(words), "/".join(named)


class AuditTrail:
    """One per process. Made by `open_trail`."""

    def __init__(
        self,
        audit: Audit,
        reader: AuditReader,
        checkpointer: Checkpointer,
        shipping: Shipping,
        *,
        is_owner: bool,
        keys: SigningKeys | None = None,
    ) -> None:
        self._keys = keys
        self.audit = audit
        self.reader = reader
        self.checkpointer = checkpointer
        self.shipping = shipping
        self._is_owner = is_owner
        self._every_s = 60.0
        self._config = AuditConfig()
        self._loop: asyncio.Task[None] | None = None
        # The emergency under which a caller acts, so that each of its records names it; set when identity is open.
        self.emergency_of: Callable[[str], str] = lambda principal_id: ""
        # What a record may say of a resource: it comes from the addresses that callers ask. Set when there is a guard.
        self.guarded: Callable[[str], str] = str

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.checkpointer.public.name

    @property
    def key(self) -> str:
        """The public key by which the log is verified."""
        return str(self.checkpointer.public)

    def pseudonym(self, principal_id: str) -> str:
        """What records call a caller."""
        if principal_id in NOT_PERSONS or principal_id.startswith("p_"):
            return principal_id
        return self.audit.names.of(principal_id)

    def take(self, manifest: Manifest, folder: Path) -> None:
        """Checkpoint and ship by this manifest from now on. `ConfigError`."""
        self._every_s = parse_duration_s(manifest.audit.every)
        self.shipping.configure(manifest.audit, folder, manifest.name)
        if self._keys is not None:
            self._keys.take(manifest.audit.key, manifest.audit.next_key)
        self._config = manifest.audit

    def start(self) -> None:
        """Start the checkpoints, in the owner."""
        if self._is_owner:
            self._loop = asyncio.create_task(self._checkpoint_loop(), name="audit-checkpoints")

    async def close(self) -> None:
        """Record the end, sign once more, ship once more, and stop."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self.audit.close()
        if self._is_owner:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_CHECKPOINT_S):
                    await self.checkpoint()
        await self.shipping.close()

    # -- recording ----------------------------------------------------------------------------------------------------

    async def act(self, action: str, principal_id: str, resource: str = "", **detail: Any) -> None:
        """Record an act before it is done. `AuditUnavailable`."""
        actor = self.pseudonym(principal_id)
        told = {**self._emergency(principal_id), **detail}
        await self.audit.act(event_of(action, actor=actor, resource=self.guarded(resource), outcome="begun", **told))

    def note(self, action: str, principal_id: str, resource: str = "", outcome: str = "ok", **detail: Any) -> None:
        """Record what has happened, without waiting."""
        actor = self.pseudonym(principal_id)
        told = {**self._emergency(principal_id), **detail}
        self.audit.note(event_of(action, actor=actor, resource=self.guarded(resource), outcome=outcome, **told))

    def _emergency(self, principal_id: str) -> dict[str, str]:
        found = self.emergency_of(principal_id)
        return {"break_glass": found} if found else {}

    async def doing(
        self, action: str, principal_id: str, resource: str, do: Callable[[], Awaitable[T]], **detail: Any
    ) -> T:
        """Do an act that is recorded before, and how it ended after. `AuditUnavailable`: then nothing was done."""
        await self.act(action, principal_id, resource, **detail)
        outcome = "failed"
        try:
            done = await do()
            outcome = "done"
            return done
        except RoadbedError as error:
            outcome = error.code
            raise
        finally:
            self.note(action, principal_id, resource, outcome)

    def sign_text(self, text: str) -> str:
        """The signature of a receipt by the log's key."""
        return self.checkpointer.sign_text(text)

    async def page(self, **filters: Any) -> tuple[list[dict[str, Any]], str | None]:
        """Records, newest first, as `AuditReader.page`, to be read: what people wrote into names is masked."""
        rows, place = await self.reader.page(**filters)
        for row in rows:
            row["resource"] = self.guarded(row["resource"])
            detail = row["detail"].items()
            row["detail"] = {name: self.guarded(value) if isinstance(value, str) else value for name, value in detail}
        return rows, place

    async def head(self) -> dict[str, Any]:
        """Where the log stands, as `AuditReader.head`, by which name, and which key signs now."""
        await self.checkpointer.follow()
        return {**await self.reader.head(), "origin": self.origin, "key": self.key}

    async def rotate_key(self, principal_id: str) -> dict[str, Any]:
        """Go over to another signing key: the public keys before and after, and the checkpoint that both have signed.
        `AuditKeyElsewhere`, `AuditKeyLate`, `AuditBroken`, `AuditUnavailable`.
        """
        assert self._keys is not None
        keys, checkpointer = self._keys, self.checkpointer
        actor = self.pseudonym(principal_id)

        async def record(change: KeyChange) -> None:
            await self.audit.act(event_of(ROTATION_ACTION, actor=actor, outcome="ok", **change.detail()))

        await checkpointer.follow()
        old = self.key
        taken = await checkpointer.rotate(await asyncio.to_thread(keys.make_next), record)
        await asyncio.to_thread(keys.settle, self.key)
        log.warning("the audit's signing key was changed, by checkpoint %d", taken.number)
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            await self.shipping.ship()
        return {"old": old, "new": self.key, "checkpoint": taken.number, "size": taken.size}

    # -- checkpoints --------------------------------------------------------------------------------------------------

    async def checkpoint(self) -> int:
        """Sign what was recorded and ship it; how many checkpoints were made."""
        made = 0
        try:
            made = len(await self.checkpointer.run())
        except AuditBroken as error:
            log.critical("the audit log is broken: %s", error.message)
            await self.shipping.alarm("audit_broken", error.message)
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("no checkpoint was made: %s", error.code)
            return 0
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            await self.shipping.ship()
        return made

    async def _checkpoint_loop(self) -> None:
        while True:
            await self.checkpoint()
            await asyncio.sleep(self._every_s)


async def open_trail(
    stack: AsyncExitStack,
    settings: Settings,
    manifest: Manifest,
    folder: Path,
    database: Database,
    metrics: Metrics,
    *,
    slot: int | None,
) -> AuditTrail:
    """The audit of this process; ``slot`` is a serving process's number, None in the owner."""
    state, is_owner = settings.state / "audit", slot is None
    names = Pseudonyms(await load_deployment_secret(database, PSEUDONYM_SECRET))
    spool = state / "spool"
    audit = Audit(
        database,
        spool if is_owner else spool / f"worker-{slot}-{new_id()}",
        metrics,
        names,
        host=socket.gethostname()[:100],
        slot=slot or 0,
        is_owner=is_owner,
    )
    try:
        keys = SigningKeys(f"roadbed/{manifest.name}", manifest.audit.key, manifest.audit.next_key, folder, state)
        signer = await asyncio.to_thread(keys.first)
    except OSError as error:
        raise ConfigError(f"the audit's key cannot be read: {error.strerror}") from None
    checkpointer = Checkpointer(database, signer, state, keys.find)
    shipping = Shipping(database, lambda: checkpointer.public)
    trail = AuditTrail(audit, AuditReader(database), checkpointer, shipping, is_owner=is_owner, keys=keys)
    trail.take(manifest, folder)
    await audit.start(version=__version__, workspace=manifest.name)
    stack.push_async_callback(trail.close)
    trail.start()
    return trail


def audited_action(request: Any) -> tuple[str, str]:
    """`act_name` of a Starlette request."""
    return act_name(request.method, request.url.path, request.path_params.values())
