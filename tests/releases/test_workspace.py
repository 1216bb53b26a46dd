"""Loading a workspace, and compiling it to releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadbed.kernel.errors import ConfigError
from roadbed.releases.compile import ROUTES, compile_releases, unseal
from roadbed.releases.workspace import infer_manifest, load_workspace

from .comparing import changed_parts

MANIFEST = """\
name: acme
endpoints:
  lab: {type: openai, url: "http://127.0.0.1:9/v1", model: tiny}
models:
  smart: {ladder: [lab, openai/gpt-5]}
sources:
  handbook: {type: files, path: handbook, labels: [internal]}
collections:
  company: {sources: [handbook]}
apps:
  helpdesk: {kind: copilot, model: smart, knowledge: [company], prompt: prompt.md}
teams:
  support: {apps: [helpdesk, smart]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handbook").mkdir()
    (tmp_path / "prompt.md").write_text("Answer briefly.")
    (tmp_path / "roadbed.yaml").write_text(MANIFEST)
    return tmp_path


def test_a_folder_without_a_manifest_just_works(tmp_path: Path) -> None:
    folder = tmp_path / "My documents 2026"
    folder.mkdir()
    workspace = load_workspace(folder)
    assert workspace.is_inferred
    assert workspace.manifest.name == "my-documents-2026"
    assert {name: app.kind for name, app in workspace.manifest.apps.items()} == {
        "search": "search",
        "copilot": "copilot",
    }


def test_what_init_writes_is_what_is_served_without_it(tmp_path: Path) -> None:
    before = load_workspace(tmp_path)
    (tmp_path / "roadbed.yaml").write_text(infer_manifest(tmp_path))
    after = load_workspace(tmp_path)
    assert after.manifest == before.manifest
    assert not after.is_inferred


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            "sources: [handbook]",
            "sources: [handbok]",
            9,
            "there is no source named `handbok` (did you mean `handbook`?)",
        ),
        ("knowledge: [company]", "knowledge: [firm]", 11, "there is no collection named `firm`"),
        ("model: smart,", "model: smrt,", 11, "there is no model named `smrt` (did you mean `smart`?)"),
        ("prompt: prompt.md", "prompt: none.md", 11, "the prompt file none.md cannot be read"),
        ("path: handbook", "path: nowhere", 7, "the folder nowhere does not exist"),
        ("[lab, openai/gpt-5]", "[lap]", 5, "there is no endpoint named `lap` (did you mean `lab`?)"),
        ("[lab, openai/gpt-5]", "[smart]", 5, "`smart` is a model; a ladder names endpoints"),
        ("apps: [helpdesk, smart]", "apps: [desk]", 13, "there is no app or model named `desk`"),
        ("labels: [internal]", "labels: ['top secret']", 7, "labels: 'top secret' is not a label"),
        ("model: tiny}", "model: tiny, key: sk-123}", 3, "`key` must be a reference"),
        ("http://127.0.0.1:9", "http://me:secret@127.0.0.1:9", 3, "`url` holds a user or password"),
        ("  smart: {ladder", "  helpdesk: {ladder", 5, "`helpdesk` is an app and a model"),
        ("  smart: {", "  smart: {task: embeddings, ", 11, "the app `helpdesk` cannot ask `smart`: it is for"),
    ],
)
def test_references_between_sections_are_checked(folder: Path, old: str, new: str, line: int, message: str) -> None:
    (folder / "roadbed.yaml").write_text(MANIFEST.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_workspace(folder)
    found = [str(error) for error in (caught.value, *caught.value.others)]
    assert any(text.startswith(f"roadbed.yaml:{line}: {message}") for text in found), found


def test_an_app_without_a_model_asks_the_first_one_for_chat(folder: Path) -> None:
    first = "models:\n  vectors: {ladder: [lab], task: embeddings}\n"
    text = MANIFEST.replace("models:\n", first).replace("model: smart, ", "")
    (folder / "roadbed.yaml").write_text(text)
    assert compile_releases(load_workspace(folder), {})["helpdesk"].document["settings"]["model"] == "smart"


def test_compiling_twice_gives_the_same_digests_wherever_it_stands(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "handbook").mkdir()
    for name in ("prompt.md", "roadbed.yaml"):
        (elsewhere / name).write_bytes((folder / name).read_bytes())
    first = compile_releases(load_workspace(folder), {"company": "g1"})
    second = compile_releases(load_workspace(elsewhere), {"company": "g1"})
    assert {app: release.digest for app, release in first.items()} == {app: r.digest for app, r in second.items()}


def test_a_release_pins_what_its_app_needs_and_no_more(folder: Path) -> None:
    before = compile_releases(load_workspace(folder), {"company": "g1"})
    (folder / "prompt.md").write_text("Answer at length.")
    after = compile_releases(load_workspace(folder), {"company": "g1"})
    assert before["helpdesk"].digest != after["helpdesk"].digest
    assert before[ROUTES].digest == after[ROUTES].digest
    assert changed_parts(before["helpdesk"], after["helpdesk"]) == {"prompt"}
    moved = compile_releases(load_workspace(folder), {"company": "g2"})
    assert changed_parts(after["helpdesk"], moved["helpdesk"]) == {"retrieval"}


def test_a_stored_release_is_checked_against_its_digest(folder: Path) -> None:
    release = compile_releases(load_workspace(folder), {})["helpdesk"]
    assert unseal("helpdesk", release.digest, release.manifest) == release
    assert unseal("helpdesk", release.digest, release.manifest + b" ") is None


REACH = """\
name: acme
sources:
  crm: {type: http, url: "https://crm.example/v2", openapi: crm.yaml, operations: [list], auth: {bearer: env:CRM}}
  shelf: {type: objects, url: "s3://bucket/acme/", key: env:SHELF_KEY, secret: env:SHELF_SECRET}
"""


EXCHANGE = "{url: 'https://i.example/t', audience: crm, client_secret: the-secret-itself}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        ("crm.yaml", "missing.yaml", "cannot be read"),
        ("crm.yaml", "roadbed.yaml", "no OpenAPI"),
        ("bearer: env:CRM", "bearer: the-token-itself", "reference"),
        ("bearer: env:CRM", "bearer: env:CRM, basic: env:CRM", "exactly one"),
        ("bearer: env:CRM", "header: X-Key", "reference"),
        ("crm.example/v2", "127.1/v2", "unusual form"),
        ("s3://bucket/acme/", "s3://key@bucket/acme/", "cannot be used"),
        ("s3://bucket/acme/", "s3://bucket/acme", "url"),
        ("key: env:SHELF_KEY, ", "", "belong together"),
        ("env:SHELF_SECRET", "abcdef", "must be a reference"),
        ("auth: {", "caller_auth: {stored: bearer}, auth: {", "has auth and caller_auth"),
        ("auth: {bearer: env:CRM}", "caller_auth: {stored: header}", "name goes with stored"),
        ("auth: {bearer: env:CRM}", "caller_auth: {exchange: {url: 'https://i.example/t'}}", "audience or resource"),
        ("auth: {bearer: env:CRM}", f"caller_auth: {{exchange: {EXCHANGE}}}", "client_secret` must be a reference"),
        ("auth: {bearer: env:CRM}", f"caller_auth: {{exchange: {EXCHANGE.replace('https', 'http')}}}", "https://"),
        ("  shelf:", "  pdf: {type: mcp, command: [x], caller_auth: {stored: bearer}}\n  shelf:", "needs a url"),
    ],
)
def test_sources_that_tools_reach_are_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "crm.yaml").write_text("openapi: 3.1.0\npaths: {/a: {get: {operationId: list}}}\n")
    (tmp_path / "roadbed.yaml").write_text(REACH.replace(old, new) if old else REACH)
    if not message:
        assert set(load_workspace(tmp_path).manifest.sources) == {"crm", "shelf"}
        return
    with pytest.raises(ConfigError) as raised:
        load_workspace(tmp_path)
    assert message in str(raised.value)
