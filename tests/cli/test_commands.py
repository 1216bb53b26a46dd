"""Commands that need no server: the table of commands, `check`, `config`, `models add`, `doctor`, and exit codes."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from roadbed.cli.main import (
    COMMANDS,
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NO_SERVER,
    EXIT_OK,
    EXIT_USAGE,
    command_parser,
    main,
)

Capture = pytest.CaptureFixture[str]

MANIFEST = """\
name: acme
sources:
  handbook: {type: files, path: ./docs}
collections:
  company: {sources: [handbook]}
apps:
  # people use this one
  helpdesk:
    kind: copilot
    knowledge: [company]
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "roadbed.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_has_help_with_an_example(name: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == EXIT_OK
    text = capsys.readouterr().out
    assert f"roadbed {name}" in text.partition("example:")[2]
    assert command_parser(name).description


def test_unknown_commands_name_the_nearest(capsys: Capture) -> None:
    assert main(["serch"]) == EXIT_USAGE
    assert "`roadbed search`" in capsys.readouterr().err
    assert main([]) == EXIT_OK
    assert main(["--version"]) == EXIT_OK


@pytest.mark.parametrize("words", [["ask", "x"], ["search", "x"], ["keys", "list"], ["ingest"], ["models", "list"]])
def test_without_a_server_commands_say_how_to_start_one(
    words: list[str], workspace: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROADBED_URL", raising=False)
    arguments = [*words, "--state", str(workspace / "state")]
    assert main(arguments) == EXIT_NO_SERVER
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"no server runs with the state folder {workspace / 'state'}" in error
    assert "roadbed up" in error


@pytest.mark.parametrize(
    "url", ["localhost:8400", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", "x"]
)
def test_what_is_no_address_is_said_in_one_line(url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADBED_API_KEY", "rbk_x")
    assert main(["traces", "--url", url]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "is not an address (write for example http://127.0.0.1:8400)" in error


def test_another_server_at_the_address_is_said_in_one_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a page</html>")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    monkeypatch.setenv("ROADBED_API_KEY", "rbk_x")
    with HTTPServer(("127.0.0.1", 0), Page) as other:
        serving = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            assert main(["traces", "--url", f"http://127.0.0.1:{other.server_port}"]) == EXIT_FAILED
        finally:
            other.shutdown()
            serving.join()
    assert "is not Roadbed" in capsys.readouterr().err


@pytest.mark.parametrize("ends", [KeyboardInterrupt(), FileNotFoundError(2, "No such file or directory", "/proc/x")])
def test_an_interrupt_and_a_file_that_cannot_be_written_are_no_traceback(
    ends: BaseException, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parser(name: str) -> None:
        raise ends

    monkeypatch.setattr("roadbed.cli.main.command_parser", parser)
    assert main(["check"]) == (EXIT_INTERRUPTED if isinstance(ends, KeyboardInterrupt) else EXIT_FAILED)
    error = capsys.readouterr().err
    assert error in ("", "roadbed: /proc/x: No such file or directory\n")


def test_an_address_that_nobody_serves_is_one_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADBED_API_KEY", "rbk_x")
    assert main(["search", "x", "--url", "http://127.0.0.1:9"]) == EXIT_NO_SERVER
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.delenv("ROADBED_API_KEY")
    assert main(["search", "x", "--url", "http://127.0.0.1:9"]) == EXIT_NO_SERVER
    assert "ROADBED_API_KEY" in capsys.readouterr().err


BROKEN = [
    ("unknown key", "    kind: copilot", "    kind: copilot\n    deadlin: 20s", 10, "`deadline`"),
    ("wrong type", "knowledge: [company]", "knowledge: company", 10, "`apps.helpdesk.knowledge`"),
    ("wrong word", "kind: copilot", "kind: oracle", 9, "oracle"),
    ("missing folder", "./docs", "./nowhere", 3, "./nowhere"),
    ("missing file", "    kind: copilot", "    prompt: prompts/x.md\n    kind: copilot", 9, "prompts/x.md"),
    ("duplicate name", "  company:", "  company: {sources: [handbook]}\n  company:", 6, "twice"),
    ("unknown source", "sources: [handbook]", "sources: [handbok]", 5, "`handbook`"),
    ("model of a model", "name: acme", "name: acme\nmodels: {a: {ladder: [b]}, b: {ladder: [a]}}", 2, "is a model"),
    ("cycle", "name: acme", "name: acme\nguard: &g {allow: *g}", 2, "itself"),
    ("unknown provider", "name: acme", "name: acme\nmodels: {a: {ladder: [opanai/x]}}", 2, "`openai`"),
    ("wrong address", "name: acme", "name: acme\nendpoints: {a: {type: openai, model: m, url: lab}}", 2, "http"),
    (
        "key in the clear",
        "name: acme",
        "name: acme\nendpoints: {a: {type: openai, model: m, key: sk-1}}",
        2,
        "env:NAME",
    ),
    ("no YAML", "name: acme", "name: [acme", 2, "YAML"),
]


@pytest.mark.parametrize(("case", "old", "new", "line", "says"), BROKEN)
def test_each_fault_of_a_manifest_is_one_line_with_file_and_line(
    workspace: Path, capsys: Capture, case: str, old: str, new: str, line: int, says: str
) -> None:
    assert old in MANIFEST
    (workspace / "roadbed.yaml").write_text(MANIFEST.replace(old, new, 1))
    assert main(["check", str(workspace)]) == EXIT_CONFIG
    error = capsys.readouterr().err.splitlines()[0]
    assert error.startswith(f"roadbed: roadbed.yaml:{line}: "), error
    assert says in error
    assert main(["check", str(workspace), "--json"]) == EXIT_CONFIG
    found = json.loads(capsys.readouterr().out)
    assert found["errors"][0]["line"] == line


def test_all_faults_are_told_in_one_pass(workspace: Path, capsys: Capture) -> None:
    text = MANIFEST.replace("./docs", "./nowhere").replace("knowledge: [company]", "knowledge: [compny]")
    (workspace / "roadbed.yaml").write_text(text)
    assert main(["check", str(workspace)]) == EXIT_CONFIG
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_config_explains_keys_by_path_by_section_and_by_name(capsys: Capture) -> None:
    assert main(["config", "explain", "apps.helpdesk.deadline"]) == EXIT_OK
    assert capsys.readouterr().out.startswith('apps.NAME.deadline: duration, default: "60s"')
    assert main(["config", "explain", "models"]) == EXIT_OK
    assert "models.NAME.ladder: list of text (not empty), required" in capsys.readouterr().out
    assert main(["config", "explain", "ladder", "--json"]) == EXIT_OK
    assert [row["path"] for row in json.loads(capsys.readouterr().out)] == ["models.NAME.ladder"]
    assert main(["config", "explain", "laddder"]) == EXIT_FAILED
    assert "`ladder`" in capsys.readouterr().err
    assert main(["config", "schema"]) == EXIT_OK
    assert "$defs" in json.loads(capsys.readouterr().out)


def test_models_add_writes_what_validates_and_shows_the_change(workspace: Path, capsys: Capture) -> None:
    path = workspace / "roadbed.yaml"
    path.chmod(0o640)
    only_shown = ["models", "add", "openai", "--workspace", str(workspace), "--print"]
    assert main(only_shown) == EXIT_OK
    assert path.read_text() == MANIFEST
    assert "+  openai: {ladder: [openai/" in capsys.readouterr().out
    assert main(["models", "add", "openai", "--workspace", str(workspace), "--app", "helpdesk"]) == EXIT_OK
    assert "+    model: openai" in capsys.readouterr().out
    assert "# people use this one" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert main(["check", str(workspace), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["models"] == 1


def test_models_add_knows_google(workspace: Path, capsys: Capture) -> None:
    assert main(["models", "add", "google", "--workspace", str(workspace)]) == EXIT_OK
    assert "+  google: {ladder: [google/gemini-" in capsys.readouterr().out
    assert main(["check", str(workspace)]) == EXIT_OK


def test_models_add_refuses_what_would_not_validate_and_leaves_the_file(workspace: Path, capsys: Capture) -> None:
    path = workspace / "roadbed.yaml"
    for words, says in (
        (["opanai"], "`openai`"),
        (["mistral"], "--model"),
        (["openai", "--app", "helpdsk"], "`helpdesk`"),
        (["openai", "--name", "helpdesk"], "an app and a model"),
        (["openai", "--name", "two words"], "roadbed.yaml"),
    ):
        assert main(["models", "add", *words, "--workspace", str(workspace)]) != EXIT_OK, words
        assert says in capsys.readouterr().err
        assert path.read_text() == MANIFEST
    assert list(workspace.glob(".roadbed*")) == []


def test_doctor_says_what_is_wrong_and_how_to_mend_it(workspace: Path, capsys: Capture) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["doctor", str(workspace), "--state", str(workspace / "state"), "--port", port, "--json"]
        assert main(words) == EXIT_FAILED
        checks = json.loads(capsys.readouterr().out)
        wrong = [check for check in checks if check["verdict"] == "wrong"]
        assert [check["name"] for check in wrong] == ["port"]
        assert "--port" in wrong[0]["fix"]
    assert {"python", "workspace", "state", "disk", "postgresql", "embedding model", "guard"} <= {
        check["name"] for check in checks
    }
    words[words.index("--port") + 1] = "0"
    assert main(words) == EXIT_OK
    capsys.readouterr()
    (workspace / "roadbed.yaml").write_text("name: [")
    (workspace / "state").touch()
    assert main(words[:-1]) == EXIT_FAILED
    text = capsys.readouterr().out
    assert text.count("WRONG") == 2
    assert text.count("->") >= 2


def test_a_database_that_is_no_address_is_told_before_anything_starts(workspace: Path, capsys: Capture) -> None:
    arguments = ["up", str(workspace), "--port", "0", "--state", str(workspace / "state"), "--database", "nonsense"]
    assert main(arguments) == EXIT_CONFIG
    assert "--database is not the address of a PostgreSQL database" in capsys.readouterr().err
    assert not (workspace / "state").exists()


@pytest.mark.parametrize("words", [["config", "schema"], ["policy", "schema"], ["policy", "show"]])
def test_what_is_printed_whole_is_also_given_as_json(words: list[str], capsys: Capture) -> None:
    assert main([*words, "--json"]) == EXIT_OK
    found = json.loads(capsys.readouterr().out)
    main(words)
    plain = capsys.readouterr().out
    whole = json.loads(plain) if words[0] == "config" else {"schema" if words[1] == "schema" else "policies": plain}
    assert found == whole
