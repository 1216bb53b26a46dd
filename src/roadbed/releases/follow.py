"""`WorkspaceFollower`: keeps what serves equal to the workspace on disk.

It watches the manifest and the prompts. A change that loads becomes a release within a second (through
`on_workspace`); one that does not leaves everything serving as it was, and `problem` says why until the file is
mended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from roadbed.kernel.errors import ConfigError, DeadlineExceeded, RoadbedError, Unavailable
from roadbed.releases.workspace import MANIFEST_NAME, Workspace, load_workspace

log = logging.getLogger("roadbed.releases")

WATCH_DEBOUNCE_MS = 100
RETRY_INTERVAL_S = 1.0
Stamp = dict[Path, tuple[int, int] | None]


class ManifestGone(ConfigError):
    """The manifest that serves was deleted or renamed; what it said goes on serving.

    Without it the folder would be served whole, to every key: a checkout of another branch must not do that.
    """

    code = "releases.manifest_gone"
    hint = "bring it back; to serve the folder without one, stop the server first"


class WorkspaceFollower:
    """Follows one workspace folder. ``on_workspace`` takes each valid state, one at a time."""

    def __init__(self, workspace: Workspace, on_workspace: Callable[[Workspace], Awaitable[None]]) -> None:
        self.workspace = workspace
        self.problem: RoadbedError | None = None
        self._on_workspace = on_workspace
        self._stop = asyncio.Event()
        self._is_asked = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._follow(), name="workspace-follow")

    def ask(self) -> None:
        """Have the workspace taken again soon, though no file changed."""
        self._is_asked = True

    async def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        from watchfiles import awatch

        seen = self._stamp()
        folders = sorted({path.parent for path in self.workspace.watched_files() if path.parent.is_dir()})
        async for _ in awatch(
            *folders, stop_event=self._stop, debounce=WATCH_DEBOUNCE_MS, step=50, recursive=False,
            yield_on_timeout=True, rust_timeout=int(RETRY_INTERVAL_S * 1000),
        ):  # fmt: skip
            stamp = self._stamp()
            if stamp == seen and not self._is_asked:
                continue
            self._is_asked = False
            if await self.reload():
                seen = stamp
            else:
                self._is_asked = True

    def _stamp(self) -> Stamp:
        stamp: Stamp = {}
        for path in [self.workspace.folder / MANIFEST_NAME, *self.workspace.watched_files()]:
            try:
                status = path.stat()
                stamp[path] = (status.st_mtime_ns, status.st_size)
            except OSError:
                stamp[path] = None
        return stamp

    async def reload(self) -> bool:
        """Load the folder again and hand it on; False when PostgreSQL was away or late: then it must be tried again.

        What ``on_workspace`` refuses for any other reason is a `problem` too, and the next save is looked at.
        """
        try:
            workspace = load_workspace(self.workspace.folder)
            if workspace.is_inferred and not self.workspace.is_inferred:
                raise ManifestGone(f"{MANIFEST_NAME} is gone")
        except ConfigError as error:
            self._note(error)
            return True
        try:
            await self._on_workspace(workspace)
        except (Unavailable, DeadlineExceeded):
            return False
        except RoadbedError as error:
            self._note(error)
            return True
        self.workspace, self.problem = workspace, None
        return True

    def _note(self, error: RoadbedError) -> None:
        if self.problem is None or str(self.problem) != str(error):
            log.warning("the workspace on disk is not taken, so what served before keeps serving: %s", error)
        self.problem = error
