"""Opening what callers with an issuer need in one process: tokens, people who sign in, and the MCP server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from roadbed.apps.registry import AppRegistry
from roadbed.guard.deployment_secrets import SESSION_SIGNING, load_deployment_secret
from roadbed.guard.identity import Identity
from roadbed.guard.oidc import Oidc, poster
from roadbed.guard.tokens import Tokens, fetcher
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.ledger import Ledger
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import Workspace as ServedWorkspace
from roadbed.server.mcp import Mcp
from roadbed.server.mcp_follow import DocumentFollows
from roadbed.server.mcp_offering import Workspace
from roadbed.server.mcp_questions import Questions, StoredRelay
from roadbed.server.mcp_types import Toolbox
from roadbed.server.teams import Teams
from roadbed.store.database import Database
from roadbed.wire.client import UpstreamClient

STATE_KEY_NAME = "mcp_request_state"


@dataclass(frozen=True, slots=True)
class McpParts:
    """The MCP server of a process, what it shows, and whose tokens are taken."""

    mcp: Mcp
    offering: Workspace
    tokens: Tokens
    oidc: Oidc
    identity: Identity
    folder: Path

    def take(self, manifest: Manifest) -> None:
        """Go by this manifest from now on. Raises `ConfigError`."""
        self.tokens.take(manifest.identity)
        self.oidc.take(manifest.identity, self.folder)
        self.identity.take_certificates(manifest.identity.certificates)

    def serve_at(self, url: str) -> None:
        """Say where the deployment is reached."""
        self.tokens.serve_at(url)
        self.offering.console_url = f"{self.tokens.address}/console"


async def open_mcp(
    stack: AsyncExitStack,
    database: Database,
    identity: Identity,
    client: UpstreamClient,
    offered: tuple[Toolbox, Knowledge, AppRegistry, Teams, Ledger],
    workspace: Callable[[], ServedWorkspace],
) -> McpParts:
    """Everything of `/mcp`, closed with the stack. ``workspace`` gives the one that serves."""

    def manifest() -> Manifest:
        return workspace().manifest

    tokens = Tokens(fetcher(client))
    tokens.take(manifest().identity)
    identity.tokens = tokens
    tokens.start()
    stack.push_async_callback(tokens.stop)

    def sources() -> list[str]:
        return sorted({name for collection in manifest().collections.values() for name in collection.sources})

    follows = DocumentFollows(database, offered[1])
    await follows.start()
    stack.push_async_callback(follows.stop)
    questions = Questions(StoredRelay(database))
    await questions.start()
    stack.push_async_callback(questions.stop)
    offering = Workspace(*offered, sources, name=f"roadbed-{manifest().name}", follows=follows)
    mcp = Mcp(offering, await load_deployment_secret(database, STATE_KEY_NAME), questions)
    stack.push_async_callback(mcp.close)
    key = await load_deployment_secret(database, SESSION_SIGNING)
    oidc = Oidc(identity.people, fetcher(client), poster(client), key, lambda: tokens.address)
    oidc.take(manifest().identity, workspace().folder)
    identity.take_certificates(manifest().identity.certificates)
    return McpParts(mcp, offering, tokens, oidc, identity, workspace().folder)
