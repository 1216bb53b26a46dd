"""Every place that writes text somewhere is listed with the reason why nothing unguarded gets there.

By the syntax of the sources: calls that write files, sockets and tables, SQL that inserts or updates, logs and metrics'
labels. A new place that is not listed fails, and so does a listed one that is gone.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from .test_tidy import SOURCE, source_files, tree_of

GUARDED = "what it is given has passed the guard: Guarded by type, or made of it"
FACTS = "names, numbers, times and digests of ours; no text of a caller, a document or a row"
OWN = "settings, keys and manifests that an operator wrote or that were made here"
TERMINAL = "the terminal or file of whoever runs the command"
APPROVED = "approved writes with arguments that `toolbox` guarded"
SOURCE_ONLY = "statements to the system that the data is in; they read"
WIRE = "moves bytes for a caller of this room, which guarded them"
CALLER = "an answer to its own caller"
ISOLATED = "into a worker process of ours on this machine, which stores nothing"

FILES = {
    "cli/ask.py": TERMINAL, "cli/audit.py": TERMINAL, "cli/import_config.py": TERMINAL, "cli/init.py": TERMINAL,
    "cli/analytics.py": TERMINAL, "cli/cards.py": TERMINAL, "cli/controls.py": TERMINAL,
    "cli/screen.py": TERMINAL,
    "server/trial_data.py": "a text in memory, of made-up values",
    "controls/loopback.py": "what a control's own endpoint answers", "gateway/shared_answers.py": GUARDED,
    "server/controls.py": "a planted value, into a file of the control's own that it takes away again",
    "cli/mcp.py": TERMINAL, "cli/output.py": TERMINAL, "cli/docs.py": OWN, "cli/models.py": OWN,
    "cli/data.py": "made-up rows and documents, by `guard.personas` and `sources.synthetic`",
    "console/markdown.py": CALLER, "guard/engine.py": FACTS, "knowledge/embedding_model.py": FACTS,
    "knowledge/ingest.py": "hands a prepared document, made of Guarded, to the group writer",
    "knowledge/parse/pool.py": ISOLATED, "knowledge/parse/worker.py": ISOLATED, "knowledge/parse/rtf.py": ISOLATED,
    "ledger/budgets.py": FACTS, "ledger/spool.py": GUARDED, "server/audit_shipping.py": FACTS,
    "server/chat_hot.py": CALLER, "server/mcp_http.py": CALLER, "server/reply.py": CALLER, "server/up.py": FACTS,
    "server/mcp_streams.py": FACTS,
    "server/link.py": "between processes of one deployment: manifest, health, orders", "sources/duckdb.py": ISOLATED,
    "sources/duckdb_worker.py": ISOLATED, "store/embedded.py": OWN, "store/state.py": FACTS,
    "tools/sql/gate.py": "a buffer in memory", "tools/upstreams/lock.py": OWN,
    "tools/upstreams/stdio_launch.py": OWN,
    "tools/upstreams/stdio_peer.py": "arguments that `toolbox` guarded for the tool",
    "wire/connect.py": WIRE, "wire/connection.py": WIRE, "wire/direct.py": WIRE, "wire/protocol.py": WIRE,
    "wire/request.py": WIRE, "wire/revocation.py": "lists of revoked certificates, for the TLS library",
    "testing/flaky_endpoint.py": "a fake", "testing/scripted_model.py": "a fake",
}  # fmt: skip
TABLES = {
    "apps/analytics_saved.py": "statements without secrets (`Analytics.save`), and results that passed `shape`",
    "controls/evidence.py": FACTS, "controls/sinks.py": "a planted value, taken away again",
    "gateway/shared_answers.py": "answers in which the guard found nothing", "server/model_approvals.py": OWN,
    "guard/directory.py": "people and groups as their directory sends them", "sources/catalogue_sql.py": SOURCE_ONLY,
    "guard/credentials.py": "credentials of callers, sealed, and names of their owners",
    "guard/people.py": "people as their directory or issuer names them",
    "server/canary_ground.py": "deletes, and planted values in a file that it takes away",
    "guard/glasses.py": "reasons and notes with placeholders for findings", "server/erasure_people.py": "empties alone",
    "server/second_person.py": "reasons with placeholders for findings, and digests",
    "guard/deployment_secrets.py": OWN, "guard/identity.py": OWN, "guard/sessions.py": OWN,
    "guard/ended_sessions.py": "digests of sessions that have ended",
    "knowledge/catalog.py": "names, versions and states of documents; a name is part of its stored text",
    "knowledge/connectors/uploads.py": "names and digests; the bytes pass `upload_guard`",
    "knowledge/generations.py": FACTS, "knowledge/index.py": GUARDED, "knowledge/ingest.py": GUARDED,
    "knowledge/vector_index.py": FACTS, "knowledge/permissions.py": FACTS,
    "knowledge/sync.py": "states and our own messages of failures",
    "knowledge/vectors.py": "vectors and digests of Guarded text", "ledger/audit.py": FACTS,
    "ledger/audit_checkpoint.py": FACTS, "ledger/audit_witness.py": FACTS, "ledger/budget_bank.py": FACTS,
    "ledger/copying.py": GUARDED, "ledger/ledger.py": GUARDED, "ledger/shares.py": FACTS,
    "server/mcp_follow.py": FACTS, "server/mcp_questions.py": "yes or no of a person, never text (`carried`)",
    "releases/aliases.py": OWN, "server/audit_shipping.py": FACTS, "server/erasure.py": "digests of erased values",
    "server/erasure_sweep.py": "replaces and deletes alone", "server/retention.py": "deletes, and tree heads",
    "sources/duckdb_worker.py": SOURCE_ONLY, "sources/mysql.py": SOURCE_ONLY, "sources/postgres.py": SOURCE_ONLY,
    "sources/registry.py": "seeds a database that the manifest declares, from its own file",
    "sources/mysql_writing.py": APPROVED, "sources/sqlite.py": SOURCE_ONLY, "sources/sqlite_writing.py": APPROVED,
    "sources/writing.py": APPROVED,
    "store/database.py": WIRE, "store/embedded_roles.py": OWN, "store/jobs.py": "ids of documents and sources",
    "store/migrate.py": OWN, "store/first_connection.py": OWN,
    "tools/approvals.py": "arguments that `toolbox` guarded for the tool",
}  # fmt: skip
FILE_CALLS = {"write_text", "write_bytes", "write", "writelines", "sendall", "sendto"}
TABLE_CALLS = {"execute", "executemany", "executescript", "copy_records_to_table"}
CHANGES = re.compile(r"\b(INSERT INTO|UPDATE [a-z_{\"]+ SET)\b")
LOGGERS = {"log", "logger"}
LOG_CALLS = {"debug", "info", "warning", "error", "exception", "critical"}
TEXT_NAMES = re.compile(
    r"\b(prompt|text|question|body|content|arguments|rows?|query|answer|data|result|payload|headers?)\b"
)
LOGGED = {
    "releases/aliases.py: row['app']": "the app's name",
    "controls/register.py: (control.id, result.outcome)": "pass, fail or invalid",
    "knowledge/vector_index.py: rows": "how many vectors there are",
}


@cache
def nodes_of(path: Path) -> tuple[ast.Call | ast.Constant, ...]:
    """Calls of methods and texts of a file."""
    return tuple(
        node
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    )


def writers(calls: set[str], pattern: re.Pattern[str] | None = None) -> set[str]:
    """Files that make such calls, or hold such a text."""
    found = set()
    for path in source_files():
        for node in nodes_of(path):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in calls
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern is not None
            if is_call or (is_text and pattern is not None and pattern.search(str(getattr(node, "value", "")))):
                found.add(str(path.relative_to(SOURCE)))
    return found


def test_every_writer_of_files_and_sockets_is_listed() -> None:
    found = writers(FILE_CALLS)
    assert not found - set(FILES), f"new writers: guard what they write, and list them: {sorted(found - set(FILES))}"
    assert not set(FILES) - found, f"listed, and no writers: {sorted(set(FILES) - found)}"


def test_every_writer_of_tables_is_listed() -> None:
    found = writers(TABLE_CALLS, CHANGES) - {"ledger/audit_verify.py"}
    assert not found - set(TABLES), f"new writers: guard what they write, and list them: {sorted(found - set(TABLES))}"
    assert not set(TABLES) - found, f"listed, and no writers: {sorted(set(TABLES) - found)}"


def test_logs_and_metrics_take_facts_and_no_text() -> None:
    wrong: dict[str, list[int]] = defaultdict(list)
    for path in source_files():
        for node in nodes_of(path):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            is_log = owner in LOGGERS and node.func.attr in LOG_CALLS
            is_metric = owner.endswith("metrics") and node.func.attr in ("add", "observe", "set")
            if not (is_log or is_metric):
                continue
            given = node.args[1:] if is_log else node.args
            if is_log and node.args and not isinstance(node.args[0], ast.Constant):
                given = node.args  # a format made on the fly
            for argument in given:
                word = f"{path.relative_to(SOURCE)}: {ast.unparse(argument)}"
                if TEXT_NAMES.search(ast.unparse(argument)) and word not in LOGGED:
                    wrong[word].append(node.lineno)
    assert not wrong, dict(wrong)


def test_records_and_the_index_take_guarded_text_by_type() -> None:
    """The fields in which text is recorded or indexed are of the type `Guarded`."""
    trace = (SOURCE / "ledger" / "trace.py").read_text()
    assert "_question: Guarded | None" in trace
    assert "_answer: Guarded | None" in trace
    for name, method in (("knowledge/ingest.py", "for_index_with_map"), ("tools/shaping.py", "for_tool")):
        assert f"self._guard.{method}" in (SOURCE / name).read_text(), name
