"""`roadbed up --workers 2`: one deployment, whichever process answers; what happens when one, or their owner, ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest

from roadbed.cli.main import EXIT_CONFIG
from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import (
    ADMIN_KEY,
    ModelThread,
    Server,
    eventually,
    launch,
    one_line_error,
    run_cli,
    serving,
    temporary_folder,
    write_files,
)
from .test_lifecycle import processes_naming

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

FILES = {
    "docs/fees.md": "# Fees\n\nA rush order costs 35 % extra.\n",
    "docs/kept.md": "# Keeping\n\nReports are kept for seven years.\n",
    "prompts/helpdesk.md": "You answer questions of the office.\n",
}
MANIFEST = """\
name: pair
endpoints:
  house: {{type: openai, url: "{url}", model: gamma, local: true}}
models:
  smart: {{ladder: [house]}}
sources:
  docs: {{type: files, path: docs}}
  inbox: {{type: uploads}}
collections:
  company: {{sources: [docs, inbox]}}
apps:
  helpdesk: {{kind: copilot, knowledge: [company], model: smart, prompt: prompts/helpdesk.md}}
  search: {{kind: search, knowledge: [company]}}
"""
T = TypeVar("T")
REVOKED_S = 5.0
CLIENTS_MAX = 400


class Pair:
    """A deployment with two serving processes, and a way to talk to each of them."""

    def __init__(self, server: Server, model: ModelThread) -> None:
        self.server = server
        self.model = model

    @contextmanager
    def client_of(self, number: int, key: str | None = ADMIN_KEY) -> Iterator[httpx2.Client]:
        """A client whose one connection belongs to that process."""
        for _ in range(CLIENTS_MAX):
            with self.server.client(key) as client:
                if client.get("/readyz").json()["workers"]["process_number"] == number:
                    yield client
                    return
        pytest.fail(f"process {number} took none of {CLIENTS_MAX} connections")

    def on_both(self, call: Callable[[httpx2.Client], T], key: str | None = ADMIN_KEY) -> list[T]:
        """The answers of both processes."""
        found = []
        for number in (1, 2):
            with self.client_of(number, key) as client:
                found.append(call(client))
        return found


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One deployment for the tests that leave its processes alone."""
    model = ModelThread()
    try:
        with temporary_folder() as folder:
            workspace = make_workspace(folder, model)
            with serving(workspace, folder / "state", "--workers", "2") as server:
                yield Pair(server, model)
    finally:
        model.stop()


def make_workspace(folder: Path, model: ModelThread) -> Path:
    workspace = write_files(folder / "pair", FILES)
    (workspace / "roadbed.yaml").write_text(MANIFEST.format(url=model.url))
    return workspace


def workers_of(server: Server) -> list[int]:
    """The serving processes that run, by number; the one that stands ready is not among them."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
                spools = [os.readlink(path) for path in (entry / "fd").iterdir()]
            except OSError:
                continue
            if int(status[1]) == server.process.pid and b"serve_worker" in command and status[0] != "Z":
                for path in spools:
                    if match := re.search(r"/spool/worker-(\d+)-", path):
                        found[int(match[1])] = int(entry.name)
    return [found[number] for number in sorted(found)]


def test_it_starts_like_one_and_both_answer(pair: Pair) -> None:
    output = pair.server.output
    assert output.count("/console/sign-in?token=") == 1
    assert output.count("every source was read") == 1
    assert pair.server.ready["pid"] == pair.server.process.pid
    assert len(workers_of(pair.server)) == 2
    answers = pair.on_both(lambda client: client.get("/readyz").json())
    assert [answer["workers"] for answer in answers] == [
        {"running": 2, "wanted": 2, "process_number": 1},
        {"running": 2, "wanted": 2, "process_number": 2},
    ]
    assert all(answer["parts"]["workers"] == "ok" for answer in answers)
    body = {"model": "helpdesk", "messages": [{"role": "user", "content": "What does a rush order cost?"}]}
    for answer in pair.on_both(lambda client: client.post("/v1/chat/completions", json=body).json()):
        assert "35 %" in answer["choices"][0]["message"]["content"]
    models = pair.on_both(lambda client: client.get("/api/models").json())
    assert set(models[0]["routes"]) == set(models[1]["routes"]) == {"smart"}
    doctor = pair.server.cli("doctor", str(pair.server.workspace))
    assert "2 workers" in doctor.stdout, doctor.stdout


def test_the_library_of_mcp_is_there_before_a_client_asks(pair: Pair) -> None:
    for process in workers_of(pair.server):
        maps = Path(f"/proc/{process}/maps")  # nothing else needs this extension module of the library
        eventually(lambda m=maps: "pydantic_core" in m.read_text(), within_s=60, what="the library")  # type: ignore[misc]


def test_a_key_works_and_ends_on_both(pair: Pair) -> None:
    with pair.client_of(1) as first:
        made = first.post("/api/keys", json={"team": "office"}).json()
    with pair.client_of(2, made["key"]) as second:
        eventually(lambda: second.get("/v1/models").status_code == 200, within_s=REVOKED_S, what="the new key")
        with pair.client_of(1) as first:
            assert first.delete(f"/api/keys/{made['id']}").status_code == 204
        eventually(lambda: second.get("/v1/models").status_code == 401, within_s=REVOKED_S, what="its end")


def test_a_session_of_one_process_works_on_the_other(pair: Pair) -> None:
    with pair.client_of(1, None) as first, pair.client_of(2, None) as second:
        signed_in = first.post("/console/sign-in", data={"key": ADMIN_KEY}, headers={"origin": pair.server.url})
        assert signed_in.status_code == 303, signed_in.text
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        page = second.get("/console/documents", headers={"cookie": cookie})
        assert page.status_code == 200, page.status_code
        assert second.get("/console/documents").status_code == 303


def test_an_endpoint_that_is_drained_is_drained_on_both(pair: Pair) -> None:
    def is_drained(client: httpx2.Client) -> bool:
        (endpoint,) = client.get("/api/models").json()["endpoints"]
        return bool(endpoint["is_drained"])

    def tell(number: int, order: str) -> None:
        with pair.client_of(number) as client:
            signed_in = client.post("/console/sign-in", data={"key": ADMIN_KEY}, headers={"origin": pair.server.url})
            cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
            token = re.search(r'name="form_token" value="([^"]+)"', client.get("/console/models", headers=cookie).text)
            assert token is not None
            data = {"form_token": token[1], "endpoint": "house", "order": order}
            answer = client.post("/console/models", data=data, headers={**cookie, "origin": pair.server.url})
            assert answer.status_code == 303, answer.text

    tell(1, "drain")
    eventually(lambda: all(pair.on_both(is_drained)), what="the drain on both")
    tell(2, "resume")
    eventually(lambda: not any(pair.on_both(is_drained)), what="the end of the drain")
    assert "endpoint house: drain, by " in pair.server.output


def test_a_saved_change_and_a_rollback_are_seen_by_both(pair: Pair) -> None:
    def live(client: httpx2.Client) -> str:
        found = {app["name"]: app["release"] for app in client.get("/api/status").json()["apps"]}
        return str(found["helpdesk"])

    before = pair.on_both(live)
    assert before[0] == before[1]
    prompt = pair.server.workspace / "prompts" / "helpdesk.md"
    prompt.write_text("You answer questions of the office in one sentence.\n")
    eventually(lambda: all(digest != before[0] for digest in pair.on_both(live)), what="the new release on both")
    with pair.client_of(2) as second:
        assert second.post("/api/releases/helpdesk/rollback", json={"reason": "worse"}).status_code == 200
    eventually(lambda: pair.on_both(live) == before, what="the rollback on both")

    manifest = pair.server.workspace / "roadbed.yaml"
    good = manifest.read_text()
    manifest.write_text(good + "nonsense: {}\n")

    def problem(client: httpx2.Client) -> str | None:
        return client.get("/api/status").json()["problem"]  # type: ignore[no-any-return]

    eventually(lambda: all(pair.on_both(problem)), what="the problem on both")
    manifest.write_text(good + "teams:\n  guests: {apps: [search]}\n")
    guest = pair.server.new_key("guests")["key"]

    def models(client: httpx2.Client) -> list[str]:
        return [row["id"] for row in client.get("/v1/models").json().get("data", [])]

    eventually(lambda: pair.on_both(models, guest) == [["search"]] * 2, what="the team's limits on both")


def test_uploads_and_sources_are_right_whichever_process_is_asked(pair: Pair) -> None:
    for number in (1, 2):
        with pair.client_of(number) as client:
            text = f"# Parking {number}\n\nThe garage of house {number} opens at six.\n"
            sent = client.post("/api/collections/company/documents", json={"name": f"garage-{number}.md", "text": text})
            assert sent.status_code == 202, sent.text
    (pair.server.workspace / "docs" / "late.md").write_text("# Late\n\nLate work is paid double.\n")
    with pair.client_of(2) as client:
        assert client.post("/api/ingest", json={"source": "docs"}).status_code == 202

    def counts(client: httpx2.Client) -> dict[str, tuple[int, bool]]:
        return {row["name"]: (row["indexed"], row["watched"]) for row in client.get("/api/sources").json()}

    wanted = {"docs": (3, True), "inbox": (2, False)}
    eventually(lambda: pair.on_both(counts) == [wanted, wanted], what="all documents, on both")
    for question in ("When does the garage of house 1 open?", "When does the garage of house 2 open?"):
        for found in pair.on_both(lambda client, q=question: client.post("/api/search", json={"query": q}).json()):  # type: ignore[misc]
            assert "opens at six" in found["hits"][0]["text"]


def test_metrics_are_those_of_all_processes(pair: Pair) -> None:
    def finished(client: httpx2.Client) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("roadbed_requests_total{"))

    before = pair.on_both(finished)
    assert before[0] == before[1]
    body = {"model": "helpdesk", "messages": [{"role": "user", "content": "How long are reports kept?"}]}
    pair.on_both(lambda client: [client.post("/v1/chat/completions", json=body).status_code for _ in range(2)])
    assert pair.on_both(finished) == [before[0] + 4] * 2
    assert "roadbed_workers 2" in pair.on_both(lambda client: client.get("/metrics").text)[0]


def test_one_process_that_is_killed_takes_only_its_own_requests_with_it(scratch: Path) -> None:
    model = ModelThread()
    model.script(Rule("rush", Reply(text="A rush order costs 35 % extra [1]. " * 40, gap_s=0.02)))
    try:
        with serving(make_workspace(scratch, model), scratch / "state", "--workers", "2") as server:
            pair = Pair(server, model)
            body = {"model": "smart", "messages": [{"role": "user", "content": "rush"}], "stream": True}
            ends: dict[int, str] = {}
            begun = {number: threading.Event() for number in (1, 2)}

            def read(number: int) -> None:
                text = ""
                try:
                    with (
                        pair.client_of(number) as client,
                        client.stream("POST", "/v1/chat/completions", json=body) as answer,
                    ):
                        for line in answer.iter_lines():
                            text = line or text
                            begun[number].set()
                except httpx2.HTTPError as error:
                    text = type(error).__name__
                ends[number] = text

            threads = [threading.Thread(target=read, args=(number,)) for number in (1, 2)]
            for thread in threads:
                thread.start()
            assert all(event.wait(60) for event in begun.values())
            first, second = workers_of(server)
            os.kill(first, signal.SIGKILL)
            for thread in threads:
                thread.join(60)
            assert ends[2] == "data: [DONE]", ends
            assert ends[1] != "data: [DONE]", "the process that was killed was another one"
            eventually(lambda: len(workers_of(server)) == 2, what="another process in its place")
            eventually(lambda: len(set(pair.on_both(lambda client: client.get("/healthz").text))) == 1, what="both")
            assert second in workers_of(server)
            assert first not in workers_of(server)
            assert "roadbed_worker_restarts_total 1" in pair.on_both(lambda client: client.get("/metrics").text)[0]
            traces = eventually(lambda: server.get("/api/traces")["traces"], what="the trace of the one that lived")
            assert any(trace["status"] == "ok" for trace in traces)
    finally:
        model.stop()
    assert processes_naming(scratch) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_requests_finish_and_leaves_nothing(scratch: Path, number: signal.Signals) -> None:
    model = ModelThread()
    model.script(Rule("rush", Reply(text="A rush order costs 35 % extra [1]. " * 10, gap_s=0.02)))
    try:
        server = launch(make_workspace(scratch, model), scratch / "state", "--workers", "2")
        pids = eventually(lambda: workers_of(server), what="the processes")
        body = {"model": "smart", "messages": [{"role": "user", "content": "rush"}], "stream": True}
        with server.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.signal_group(number)
            assert "data: [DONE]" in list(lines)
        assert server.process.wait(60) == 0, server.output
    finally:
        model.stop()
    assert server.output.rstrip().endswith("stopped")
    assert "Traceback" not in server.output
    assert processes_naming(scratch) == []
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not (scratch / "state" / "run" / "cli.json").exists()
    assert list((scratch / "state" / "spool").iterdir()) == []


def test_when_the_owner_is_killed_all_end_and_the_next_start_works(scratch: Path) -> None:
    model = ModelThread()
    try:
        workspace = make_workspace(scratch, model)
        server = launch(workspace, scratch / "state", "--workers", "2")
        pids = workers_of(server)
        assert len(pids) == 2
        server.kill()
        eventually(lambda: not [p for p in pids if Path(f"/proc/{p}").exists()], what="the end of all processes")
        again = launch(workspace, scratch / "state", "--workers", "2", "--port", str(server.port))
        try:
            assert "35 %" in str(again.ask("What does a rush order cost?")["choices"])
        finally:
            assert again.stop() == 0, again.output
    finally:
        model.stop()
    assert processes_naming(scratch) == []


def test_processes_that_end_again_and_again_end_the_whole_with_an_error(scratch: Path) -> None:
    model = ModelThread()
    try:
        server = launch(make_workspace(scratch, model), scratch / "state", "--workers", "2")

        def kill_first() -> bool:
            if server.process.poll() is not None:
                return True
            for pid in workers_of(server)[:1]:
                os.kill(pid, signal.SIGKILL)
            return False

        eventually(kill_first, within_s=60, what="the end")
        assert server.process.returncode == 1, server.output
    finally:
        model.stop()
    last = server.output.strip().splitlines()[-1]
    assert last.startswith("roadbed: serving process"), server.output
    assert "5 times within 60 s" in last
    assert processes_naming(scratch) == []


@pytest.mark.parametrize("count", ["0", "-1", "65"])
def test_numbers_of_processes_that_make_no_sense_are_refused(scratch: Path, count: str) -> None:
    refused = run_cli("up", str(scratch), "--state", str(scratch / "state"), "--workers", count, home=scratch)
    assert refused.returncode == EXIT_CONFIG
    assert "1 to 64" in one_line_error(refused)


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    certificate, key = folder / "server.pem", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_it_serves_with_tls_and_a_database_that_is_not_its_own(scratch: Path, empty_dsn: str) -> None:
    certificate, key = certificate_in(scratch)
    model = ModelThread()
    arguments = ["--workers", "2", "--database", empty_dsn, "--migrate", "auto"]
    arguments += ["--tls-cert", str(certificate), "--tls-key", str(key)]
    try:
        with serving(make_workspace(scratch, model), scratch / "state", *arguments) as server:
            assert server.url.startswith("https://")
            answered = set()
            for _ in range(CLIENTS_MAX):
                with httpx2.Client(base_url=server.url, verify=False, trust_env=False, timeout=30) as client:
                    answer = client.get("/readyz").json()
                    assert answer["ready"], answer
                    answered.add(answer["workers"]["process_number"])
            assert answered == {1, 2}
            assert b"postgresql" not in command_of(workers_of(server)[0])
    finally:
        model.stop()
    assert processes_naming(scratch) == []


def test_a_process_that_starts_while_the_database_is_away_waits_for_it(scratch: Path) -> None:
    """Else an outage and one crash together would end everything."""
    model = ModelThread()
    try:
        with serving(make_workspace(scratch, model), scratch / "state", "--workers", "2") as server:
            postmaster = server.postmaster()
            os.kill(postmaster, signal.SIGSTOP)
            try:
                os.kill(workers_of(server)[0], signal.SIGKILL)
                eventually(lambda: "waits: " in server.output, within_s=30, what="the wait")
            finally:
                os.kill(postmaster, signal.SIGCONT)
            eventually(lambda: len(workers_of(server)) == 2, within_s=30, what="two processes again")
            assert server.output.count("is started again") == 1
    finally:
        model.stop()
    assert processes_naming(scratch) == []
