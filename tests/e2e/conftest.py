"""Fixtures of the end-to-end tests.

`desk` is one small workspace with scripted models, shared by the files of a test process; `scratch` is a folder of the
test's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from roadbed.testing.flaky_endpoint import refused_port

from .serving import ModelThread, Server, serving, temporary_folder, write_files

DESK_FILES = {
    "open/fees.md": "# Fees\n\n## Rush orders\n\nA rush order costs 35 % extra since January 2026.\n\n"
    "## Travel\n\nThe mileage rate for a private car is NOK 5.30 per kilometre.\n",
    "open/retention.md": "# Retention\n\nAppraisal reports are kept for seven years after delivery.\n\n"
    "Drafts are deleted after ninety days.\n",
    "open/gifts.md": "# Gifts\n\nNobody may accept a gift worth more than NOK 500 from a client.\n",
    "board/merger.md": "# Merger\n\nThe merger with Kestrel Valuation closes on 14 May at a price of NOK 81 million.\n",
    "vault/deal.md": "# Deal\n\nThe reserve price of the Tollbugata auction is NOK 42 million.\n",
    "prompts/helpdesk.md": "You answer questions of the office.\n",
}

DESK_MANIFEST = """\
name: desk
endpoints:
  first: {{type: openai, url: "{first}", model: alpha, local: false}}
  second: {{type: openai, url: "{second}", model: beta, local: false}}
  house: {{type: openai, url: "{house}", model: gamma, local: true, continues: true}}
  dead: {{type: openai, url: "{dead}", model: none, local: false}}
models:
  smart: {{ladder: [first]}}
  stand-in: {{ladder: [dead, second]}}
  at-home: {{ladder: [dead, house]}}
  nobody: {{ladder: [dead]}}
  lasting: {{ladder: [first, house], on_cut: continue, when: [{{header: {{X-Tier: gold}}, use: [second]}}]}}
  whole: {{ladder: [first, second], on_cut: restart}}
  sealed: {{ladder: [first], labels: [confidential]}}
sources:
  open: {{type: files, path: open}}
  board: {{type: files, path: board, visible_to: [board]}}
  vault: {{type: files, path: vault, labels: [confidential]}}
  inbox: {{type: uploads}}
collections:
  company: {{sources: [open, board, inbox]}}
  deals: {{sources: [vault]}}
  boardroom: {{sources: [board]}}
apps:
  helpdesk: {{kind: copilot, knowledge: [company], model: smart, prompt: prompts/helpdesk.md}}
  falling-back: {{kind: copilot, knowledge: [company], model: stand-in}}
  in-house: {{kind: copilot, knowledge: [company], model: at-home}}
  modelless: {{kind: copilot, knowledge: [company], model: nobody}}
  deals: {{kind: copilot, knowledge: [deals], model: smart}}
  search: {{kind: search, knowledge: [company]}}
teams:
  board: {{}}
  staff: {{}}
  guests: {{apps: [search]}}
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder of the test's own, on a short path."""
    with temporary_folder() as folder:
        yield folder


@dataclass
class Desk:
    """The small workspace, its server and its models."""

    server: Server
    first: ModelThread
    second: ModelThread
    house: ModelThread

    @property
    def models(self) -> Sequence[ModelThread]:
        """All models."""
        return (self.first, self.second, self.house)


@pytest.fixture(scope="session")
def desk_server() -> Iterator[Desk]:
    """The small workspace, served once per test process."""
    models = [ModelThread() for _ in range(3)]
    try:
        with temporary_folder() as folder:
            workspace = write_files(folder / "desk", DESK_FILES)
            addresses = dict(zip(("first", "second", "house"), (model.url for model in models), strict=True))
            manifest = DESK_MANIFEST.format(**addresses, dead=f"http://127.0.0.1:{refused_port()}/v1")
            (workspace / "roadbed.yaml").write_text(manifest)
            with serving(workspace, folder / "state") as server:
                yield Desk(server, *models)
    finally:
        for model in models:
            model.stop()


@pytest.fixture
def desk(desk_server: Desk) -> Desk:
    """The small workspace, with models that quote passages and have seen nothing yet."""
    for model in desk_server.models:
        model.script()
    return desk_server
