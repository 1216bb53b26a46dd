"""The reference pages are what the code says: settings, errors, commands, addresses and the roles they ask for."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from roadbed.cli import docs
from roadbed.gateway.dialects import anthropic_incoming, embeddings, openai_server, rerank, responses_incoming
from roadbed.guard.access import Access
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal
from roadbed.releases.manifest import Manifest
from roadbed.releases.reference import manifest_schema, manifest_sections
from roadbed.server import admin, source_objects, turns
from roadbed.server.app import CALLER_PATHS, build_app, build_hot_table
from roadbed.server.openapi import OPERATIONS
from roadbed.server.openapi_document import build_openapi, request_structs
from roadbed.server.operations import ANYONE, Operation
from roadbed.server.request_schemas import (
    CHAT_REQUEST,
    EMBEDDINGS_REQUEST,
    MESSAGES_REQUEST,
    RERANK_REQUEST,
    RESPONSES_REQUEST,
)
from roadbed.server.services import Services

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
DESCRIBED = ("/v1/", "/api/", "/scim/", "/healthz", "/readyz", "/metrics", "/openapi.json")
MEMBER_KEY = frozenset({MEMBER})


class Anything:
    """Stands in for every part of `Services` but identity and policies: whatever a handler does with it fails."""

    def __init__(self, roles: frozenset[str]) -> None:
        self._roles = roles

    def authenticate(self, presented: bytes) -> Principal:
        """Every key is known, with the roles given."""
        return Principal(id="key", team="team", roles=self._roles, apps=None, name="key")

    def __getattr__(self, name: str) -> Any:
        if name == "identity":
            return self
        if name == "access":
            return Access()
        return Anything(self._roles)


def application(roles: frozenset[str] = MEMBER_KEY) -> Starlette:
    return build_app(cast(Services, Anything(roles)))


@pytest.mark.parametrize("name", sorted(docs.pages()))
def test_generated_page_is_up_to_date(name: str) -> None:
    path = REFERENCE / name
    assert path.is_file(), f"{name} is missing; run: make docs"
    assert path.read_text(encoding="utf-8") == docs.pages()[name], f"{name} is out of date; run: make docs"


def test_no_page_stands_there_that_nothing_makes() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(docs.pages())


def test_every_setting_has_a_description_and_a_place_in_the_table() -> None:
    sections = manifest_sections()
    without = [setting.path for section in sections for setting in section.settings if not setting.description]
    assert not without, f"settings without a description: {without}"
    named = {section.path.split(".")[0] for section in sections if section.path}
    assert {field.encode_name for field in msgspec.structs.fields(Manifest)} >= named
    assert {"endpoints", "models", "sources", "collections", "apps", "teams", "guard", "traces"} <= named


def test_the_schema_knows_the_sources_by_type() -> None:
    text = json.dumps(manifest_schema())
    for kind in ("files", "postgres", "sqlite", "uploads"):
        assert f'"{kind}"' in text


def test_error_codes_are_unique_and_explained() -> None:
    errors = docs.error_classes()
    counts = Counter(error.code for error in errors)
    assert not [code for code, count in counts.items() if count > 1]
    assert not [error.__qualname__ for error in errors if not (error.__doc__ or "").strip()]
    page = docs.errors_page()
    assert not [error.code for error in errors if f"### {error.code}\n" not in page]


def described_routes() -> set[tuple[str, str]]:
    """(method, path) of the real application and the hot table, for the addresses that are an API."""
    found = set()
    for route in application().routes:
        if isinstance(route, Route) and route.path.startswith(DESCRIBED):
            path = route.path.replace(":path}", "}")
            if path not in CALLER_PATHS:  # its other methods only say that a POST is wanted
                found |= {(method, path) for method in route.methods or () if method != "HEAD"}
    hot = build_hot_table(cast(Services, Anything(MEMBER_KEY)))
    return found | {(method.decode(), path.decode()) for method, path in hot.routes}


def test_every_route_is_described_and_every_description_is_a_route() -> None:
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    assert described_routes() == described


def test_operation_ids_are_unique() -> None:
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)


async def status_and_code(app: Starlette, operation: Operation) -> tuple[int, str]:
    """What the application answers; (0, "") when the handler was reached and failed on its stand-ins."""
    sent: list[dict[str, Any]] = []

    coming: list[dict[str, Any]] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    path = operation.path.replace("{", "").replace("}", "")
    scope = {
        "type": "http",
        "method": operation.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", b"Bearer key")],
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }
    try:
        await app(scope, receive, send)
    except (TypeError, AttributeError, ValueError):
        return 0, ""
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body).get("code", "") if body.startswith(b"{") else ""


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.id))
def test_described_role_is_what_the_route_asks_for(operation: Operation) -> None:
    if operation.path == "/v1/chat/completions":
        pytest.skip("a hot path; apps are admitted one by one")
    auditor = frozenset({MEMBER, AUDITOR})
    allowed = {ANYONE: MEMBER_KEY, MEMBER: MEMBER_KEY, AUDITOR: auditor, ADMIN: frozenset({MEMBER, ADMIN})}
    refused = {AUDITOR: MEMBER_KEY, ADMIN: auditor}
    status, code = asyncio.run(status_and_code(application(allowed[operation.role]), operation))
    assert code != "auth.role_missing"
    assert status != 404
    if operation.role in refused:
        status, code = asyncio.run(status_and_code(application(refused[operation.role]), operation))
        assert (status, code) == (403, "auth.role_missing")


def test_chat_request_is_described_whole() -> None:
    assert set(CHAT_REQUEST["properties"]) == set(openai_server._Request.__struct_fields__)
    assert set(RESPONSES_REQUEST["properties"]) == set(responses_incoming._Request.__struct_fields__)
    assert set(MESSAGES_REQUEST["properties"]) == set(anthropic_incoming._Request.__struct_fields__)
    assert set(EMBEDDINGS_REQUEST["properties"]) == set(embeddings._Asked.__struct_fields__)
    assert set(RERANK_REQUEST["properties"]) == set(rerank._Asked.__struct_fields__)


def keys_of(function: Callable[..., object]) -> set[str]:
    """Every text key of the dictionaries that a function writes down."""
    tree = ast.parse(inspect.getsource(function))
    dictionaries = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    return {str(key.value) for node in dictionaries for key in node.keys if isinstance(key, ast.Constant)}


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (admin.hit_object, "post_api_search"),
        (source_objects.source_object, "get_api_sources"),
        (source_objects.connection_object, "get_api_sources"),
        (admin.key_object, "post_api_keys"),
        (turns.facts_of, "post_v1_chat_completions"),
    ],
)
def test_described_answers_name_every_field(function: Callable[..., object], operation: str) -> None:
    answer = next(found.answer for found in OPERATIONS if found.id == operation)
    assert keys_of(function) <= set(re.findall(r"\w+", answer))


def test_references_of_the_openapi_document_resolve() -> None:
    document = build_openapi()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {struct.__name__ for struct in request_structs()} <= set(document["components"]["schemas"])

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()

    assert references(document) <= known


def test_command_reports_pages_that_are_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from roadbed.cli.main import main

    assert main(["docs", "generate", str(tmp_path)]) == 0
    assert main(["docs", "generate", str(tmp_path), "--check"]) == 0
    (tmp_path / "errors.md").write_text("old", encoding="utf-8")
    capsys.readouterr()
    assert main(["docs", "generate", str(tmp_path), "--check"]) == 1
    assert "errors.md" in capsys.readouterr().out
