"""The server against its own OpenAPI description: generated requests, right and wrong ones, get documented answers.

Each address is asked with requests that schemathesis makes of `/openapi.json`. No answer may be a failure of the
server, have a status or a media type that the description does not name, or a body that is not as it says. The seed is
the same on every run; `ROADBED_FUZZ_SEED` sets another, `ROADBED_FUZZ_EXAMPLES` asks more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from roadbed.server.openapi import OPERATIONS
from roadbed.server.operations import ANYONE

from .serving import ADMIN_KEY, ModelThread, Server, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

SEED = int(os.environ.get("ROADBED_FUZZ_SEED", "1"))
EXAMPLES = int(os.environ.get("ROADBED_FUZZ_EXAMPLES") or 4)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OWN_ERRORS = ("/mcp", "/scim/")
"""Protocols with errors of their own, in media types of their own; their own tests look at those."""

MANIFEST = """
name: fuzzed
endpoints:
  lab: {type: openai, url: "%s", model: m}
models:
  smart: {ladder: [lab]}
sources:
  handbook: {type: files, path: ./handbook}
collections:
  company: {sources: [handbook]}
apps:
  helpdesk: {kind: copilot, model: smart, knowledge: [company]}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    model = ModelThread()
    try:
        with temporary_folder() as folder:
            files = {"roadbed.yaml": MANIFEST % model.url, "handbook/fees.md": "# Fees\n\nA rush order costs 40 EUR.\n"}
            with serving(write_files(folder / "fuzzed", files), folder / "state") as running:
                yield running
    finally:
        model.stop()


@pytest.fixture(scope="module")
def description(server: Server) -> Any:
    return schemathesis.openapi.from_dict(server.get("/openapi.json"))


ASKED = [
    pytest.param(f"{operation.method} {operation.path}", mode, id=f"{operation.id}-{mode.value}")
    for operation in OPERATIONS
    for mode in schemathesis.GenerationMode
    if mode is schemathesis.GenerationMode.POSITIVE or operation.role != ANYONE  # else nothing could be wrong
]


@pytest.mark.parametrize(("address", "mode"), ASKED)
def test_every_answer_is_as_described(
    server: Server, description: Any, address: str, mode: schemathesis.GenerationMode
) -> None:
    method, path = address.split(" ", 1)
    operation = description[path][method]
    print(f"ROADBED_FUZZ_SEED={SEED}")

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=False,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        response = case.call(base_url=server.url, headers=headers, timeout=30)
        is_own = path.startswith(OWN_ERRORS)
        case.validate_response(response, checks=CHECKS[:2] if is_own else CHECKS)

    ask()
