"""The controls of a deployment, made over its services; started in the owner alone, once it listens."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from roadbed import __version__
from roadbed.controls.canary import CanaryControl
from roadbed.controls.control import Control
from roadbed.controls.emergency import BreakGlassReviewed
from roadbed.controls.evidence import EvidenceStore, Stamp
from roadbed.controls.frameworks import control_map
from roadbed.controls.probes import CollectionAccess, Erased, Labels, Lockout
from roadbed.controls.register import Controls
from roadbed.controls.sampling import ConnectedSourcesControl, Drawn, StoredTextControl
from roadbed.controls.sinks import Sinks
from roadbed.controls.standing_checks import (
    AccessReview,
    AuditHolds,
    Certificate,
    Certificates,
    Configuration,
    Configured,
    KeyAge,
    Restored,
)
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.kernel.label import PERSONAL, parse_label
from roadbed.ledger.audit_apart import verify_apart
from roadbed.ledger.audit_verify import Report
from roadbed.releases.workspace import MANIFEST_NAME, load_workspace
from roadbed.server.canary_ground import CanaryGround, HttpCaller
from roadbed.server.control_parts import DeploymentParts
from roadbed.sources.manifest import DatabaseSource
from roadbed.sources.rows import shown
from roadbed.wire.address import parse_url
from roadbed.wire.revocation import InvalidCrlFile, faults_of, read_lists, unlisted

GIT_S = 5.0
CERTIFICATE_S = 5.0
CERTIFICATES_MAX = 100


def open_controls(services: DeploymentParts) -> Controls:
    """The register with every control; nothing runs yet."""

    def stamp() -> Stamp:
        served = services.registry.served
        digests = sorted(f"{name}:{app.release.digest}" for name, app in served.apps.items())
        releases = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Stamp(services.manifest.name, __version__, releases, control_map().version)

    trail = services.trail
    store = EvidenceStore(services.database, trail.sign_text)
    controls = Controls(store, trail, trail.shipping.alarm, services.metrics, stamp)
    services.own_calls = HttpCaller()
    looks = Looks(services)
    embedded, state, guard = services.embedded, services.settings.state, looks
    ground = CanaryGround(services, services.own_calls, state)
    sinks = Sinks(services.database, state, embedded.superuser if embedded is not None else None)
    made: list[Control] = [
        CanaryControl(ground, sinks, state / "run"),
        Lockout(ground),
        Labels(ground),
        CollectionAccess(ground),
        Configuration(looks.configured),
        StoredTextControl(services.database, guard),
        ConnectedSourcesControl(looks, guard),
        AccessReview(services.identity.list_keys),
        KeyAge(services.identity.list_keys),
        BreakGlassReviewed(partial(services.identity.glasses.listed, only_unreviewed=True)),
        AuditHolds(looks.verified, trail.head),
        Restored(lambda: store.last_note("restore"), store.first),
        Certificates(looks.certificates),
        Erased(ground, looks.erase, looks.is_signed),
    ]
    controls.use(made)
    return controls


async def start_controls(services: DeploymentParts, url: str) -> None:
    """Run what is due from now on, in the owner, whose server listens at ``url``."""
    services.own_calls.url = url
    await services.controls.start(services.knowledge.is_settled)


@dataclass(frozen=True, slots=True)
class DrawnRows:
    """Rows of one declared table."""

    name: str
    is_personal: bool
    texts: Sequence[str]


class Looks:
    """What the controls read of a deployment."""

    def __init__(self, services: DeploymentParts) -> None:
        self._services = services

    def scan(self, text: str) -> list[Any]:
        """What the guard that serves finds."""
        return self._services.teams.guard.scan(text)

    async def configured(self) -> Configured:
        """The digest of the manifest that serves, and of the one on disk."""
        services = self._services
        serving = _digest(services.manifest)
        folder = services.workspace.folder
        try:
            on_disk = _digest((await asyncio.to_thread(load_workspace, folder)).manifest)
        except ConfigError:
            on_disk = ""
        problem = "" if on_disk and services.problem() is None else "refused"
        return Configured(serving, on_disk, problem, await _is_committed(folder), not services.auto_promote)

    async def drawn(self, rows: int) -> AsyncIterator[Drawn | str]:
        """The first rows of each declared table, as its connection gives them."""
        services = self._services
        for name, config in services.manifest.sources.items():
            if not isinstance(config, DatabaseSource):
                continue
            label = parse_label(config.labels, where=f"sources.{name}.labels")
            for table in config.tables:
                texts: list[str] = []
                found = services.sources.rows(name, table)
                try:
                    async for _, row, _ in found:
                        texts.append("\n".join(f"{column}: {shown(value)}" for column, value in row.items()))
                        if len(texts) >= rows:
                            break
                except RoadbedError as error:
                    yield f"{name}.{table}: {error.code}"
                    continue
                finally:
                    await found.aclose()  # type: ignore[attr-defined]
                yield DrawnRows(f"{name}.{table}", PERSONAL in label.categories, texts)

    async def verified(self) -> Report:
        """The whole log, exported and verified as an auditor would."""
        trail = self._services.trail
        await trail.checkpoint()
        with tempfile.TemporaryDirectory(prefix="roadbed-audit-") as name:
            folder = Path(name) / "export"
            await asyncio.to_thread(folder.mkdir)
            async for file_name, piece in trail.reader.files(trail.origin, None, None):
                await asyncio.to_thread(_append, folder / file_name, piece)
            return await verify_apart(folder, trail.key)

    async def certificates(self) -> Sequence[Certificate]:
        """The certificates of endpoints, and our own."""
        services = self._services
        hosts: dict[tuple[str, int], str] = {}
        for route in services.registry.served.routes.values():
            for endpoint in route.endpoints:
                if endpoint.url.startswith("https:") and not endpoint.ca_file:
                    url = parse_url(endpoint.url)
                    hosts.setdefault((str(url.origin.host), url.origin.port), endpoint.name)
        found = [await _certificate(host, port, name) for (host, port), name in list(hosts.items())[:CERTIFICATES_MAX]]
        if services.settings.tls_cert is not None:
            found.append(await asyncio.to_thread(_own_certificate, services.settings.tls_cert))
        authorities, lists = services.settings.tls_client_ca, services.settings.tls_client_crl
        if authorities is not None and lists is not None:
            found += await asyncio.to_thread(_revoked_clients, lists, authorities)
        return found

    async def erase(self, subject: str) -> dict[str, Any]:
        """Erase a test person as an admin would."""
        return await self._services.erasures.erase(subject, "system", is_dry_run=False, compacts=False)

    def is_signed(self, receipt: dict[str, Any]) -> bool:
        """Whether a receipt's signature is of the audit's key."""
        unsigned = {name: value for name, value in receipt.items() if name not in ("key", "signature", "salt")}
        text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"))
        return bool(receipt["signature"] == self._services.trail.sign_text(text))


def _digest(manifest: Any) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(manifest)).hexdigest()


def _append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)


async def _is_committed(folder: Path) -> bool | None:
    """Whether the manifest has no changes against its repository; None where there is none, or no git."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", "-C", str(folder), "status", "--porcelain", "--", MANIFEST_NAME),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(GIT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return not output.strip() if process.returncode == 0 else None


async def _certificate(host: str, port: int, name: str) -> Certificate:
    """A peer's certificate, by a handshake and no request."""
    try:
        async with asyncio.timeout(CERTIFICATE_S):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return Certificate(name, None, f"its certificate does not verify: {error.verify_message}")
    except (OSError, TimeoutError):
        return Certificate(name, None)
    found = writer.get_extra_info("peercert")
    writer.transport.abort()
    return Certificate(name, datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), UTC))


def _revoked_clients(lists: Path, authorities: Path) -> list[Certificate]:
    """What is wrong with the lists of revoked certificates of clients; they live for days, not for weeks."""
    try:
        found = read_lists(str(lists), str(authorities))
        faults = [*faults_of(found), *unlisted(found, str(authorities))]
    except InvalidCrlFile as error:
        faults = [error.message]
    return [Certificate("revoked client certificates", None, fault) for fault in faults]


def _own_certificate(path: Path) -> Certificate:
    from cryptography import x509

    try:
        return Certificate("this server", x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)
    except (OSError, ValueError) as error:
        return Certificate("this server", None, f"its certificate cannot be read ({type(error).__name__})")
