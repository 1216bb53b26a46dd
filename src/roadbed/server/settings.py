"""How one deployment runs: addresses, folders, database. Flags of ``roadbed up``; nothing here is part of a release.

STATE defaults to ``$XDG_STATE_HOME/roadbed/<hash of the workspace's path>``, mode 0700. CLI commands find a running
server through ``STATE/run/cli.json``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from roadbed.guard.keys import ADMIN_KEY_CHARACTERS_MIN
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret, resolve_secret

ADMIN_KEY_VARIABLE = "ROADBED_ADMIN_KEY"
PORT_DEFAULT = 8400
WORKERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one ``up``."""

    workspace: Path
    state: Path
    host: str = "127.0.0.1"
    port: int = PORT_DEFAULT
    database: Secret | None = None
    schema: str = ""
    workers: int = 1
    ready_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tls_client_crl: Path | None = None
    tls_client_required: bool = False
    behind_proxy: bool = False
    migrate: str = "auto"
    admin_key: Secret | None = None
    program: str = "roadbed"  # what a shell that stands where we were started calls the command line

    @property
    def is_embedded(self) -> bool:
        """Whether PostgreSQL is our own."""
        return self.database is None

    @property
    def scheme(self) -> str:
        """``https`` when certificates are given."""
        return "https" if self.tls_cert else "http"


def default_state(workspace: Path) -> Path:
    """The state folder of a workspace when none is named."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = str(workspace.expanduser().resolve())
    return Path(base) / "roadbed" / hashlib.sha256(path.encode()).hexdigest()[:16]


def database_of(text: str | None) -> Secret | None:
    """The address that ``--database`` gives, or the variable that it names; None for the embedded database."""
    if text is not None and text.startswith("env:"):
        text = resolve_secret(text, where="--database").reveal()
    if not text:
        return None
    if not text.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            "--database is not the address of a PostgreSQL database",
            hint="write env:NAME, with postgresql://USER:PASSWORD@HOST:5432/DATABASE in that variable",
        )
    return Secret(text)


def check_settings(settings: Settings) -> None:
    """Refuse combinations that would be unsafe or cannot work. Raises `ConfigError`."""
    if not 0 <= settings.port <= 65535:
        raise ConfigError(f"--port {settings.port} is not a port", hint="0 to 65535; 0 takes any free one")
    if not 1 <= settings.workers <= WORKERS_MAX:
        raise ConfigError(
            f"--workers {settings.workers} is not a number of serving processes",
            hint=f"1 to {WORKERS_MAX}; one for each core that is to serve, and 1 is enough for most",
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise ConfigError("--tls-cert and --tls-key go together")
    if settings.tls_client_ca and not settings.tls_cert:
        raise ConfigError("--tls-client-ca needs --tls-cert: clients show certificates over TLS alone")
    if settings.tls_client_required and not settings.tls_client_ca:
        raise ConfigError("--tls-client-required needs --tls-client-ca")
    if settings.tls_client_crl and not settings.tls_client_ca:
        raise ConfigError("--tls-client-crl needs --tls-client-ca: the authorities whose lists it has")
    if not (is_loopback(settings.host) or settings.tls_cert or settings.behind_proxy):
        raise ConfigError(
            f"--host {settings.host} is reachable from other machines, and keys would travel in clear",
            hint="give --tls-cert and --tls-key, or --behind-proxy when a proxy in front ends TLS",
        )
    if settings.admin_key is not None:
        key = settings.admin_key.reveal()
        if len(key) < ADMIN_KEY_CHARACTERS_MIN or not key.isprintable() or not key.isascii() or " " in key:
            raise ConfigError(
                f"{ADMIN_KEY_VARIABLE} must be {ADMIN_KEY_CHARACTERS_MIN} or more printable characters, no blanks"
            )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
