"""`Services`: everything that a running deployment consists of, opened in order and closed in reverse.

`open_services` is where the rooms are wired; no other file builds them. Each step that fails leaves nothing running behind
it. The order is: state lock, PostgreSQL, schema, guard and keys, ledger, knowledge, gateway, releases, workspace follower.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from roadbed.apps.registry import AppRegistry
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.local_engines import LocalEngines
from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.guard.sessions import Sessions
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.principal import SYSTEM
from roadbed.kernel.secrets import Secret
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.queries import LedgerReader
from roadbed.releases.aliases import Releases
from roadbed.releases.compile import compile_releases
from roadbed.releases.follow import WorkspaceFollower
from roadbed.releases.workspace import Workspace
from roadbed.server.settings import Settings, schema_name
from roadbed.sources.registry import Sources
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.jobs import Jobs
from roadbed.store.migrate import migrate
from roadbed.store.objects import ObjectStore
from roadbed.store.state import StateLock
from roadbed.wire.client import UpstreamClient

POOL_CONNECTIONS_MAX = 16
