"""The requests of a canary run: each path on which text of a caller, a source or a model goes somewhere. Pure.

A path is a name, an address, a body with values that nothing else has, and the statuses that are right. The invariant:
each place in the code where the guard is called lies on one of them: ``bench/guard/mutants.py`` takes it away.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from roadbed.controls.loopback import REFUSE_WORD
from roadbed.controls.planted import Run

REMOTE, LOCAL, ASKING, QUOTING, SEARCHING = (
    "_canary-remote", "_canary-local", "_canary-ask", "_canary-quote", "_canary-search",
)  # fmt: skip
EMBEDDING, RERANKING, FAILING = "_canary-embed", "_canary-rerank", "_canary-failing"
CITED, CACHED, THOUGHT = "_canary-cited", "_canary-cached", "_canary-thought"
COLLECTION = "_canary"
TOOL, ACTING_TOOL = "_canary_echo", "_canary_act"
"""Two tools: one gives back what it is told, the other is said to change something and waits for an approval."""
ANALYTICS, BOOKS = "_canary-analytics", "_canary-books"
"""An app, and the database that it asks: `rows_of` says what stands in its table ``ledger``."""
LARGE: Final = "A long text that says nothing. " * 4_500  # above what is looked at on the event loop
ROWS_WORD, NEAR_WORD, NONE_WORD, OWN_WORD = "saffron", "sorrel", "tansy", "yarrow"
KEPT_BY: Final = "the ledger of the thistledown office, which lies in the north of the county, is kept by its clerk"

Request = tuple[str, str, dict[str, Any], tuple[int, ...]]


def requests_of(run: Run) -> list[Request]:
    """All that do not need what another one brought."""
    ok, refused = (200,), (400, 422, 502, 503)
    chat, question = "/v1/chat/completions", "What is the thistledown fee?"

    def said(path: str, words: str = "Write to") -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{words} {run.both(path)}."}]

    def large(path: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"Write to {run.both(path)}. {LARGE}"}]

    def chatted(model: str, path: str, words: str = "Write to", **more: Any) -> dict[str, Any]:
        return {"model": model, "messages": said(path, words), **more}

    clean = {"model": REMOTE, "messages": [{"role": "user", "content": "Say something."}]}
    message = {"model": REMOTE, "max_tokens": 200, "messages": said("messages")}
    cited = {**message, "model": CITED, "messages": said("messages-cited")}
    embed = {"model": EMBEDDING, "input": [run.both("embeddings")], "user": run.both("embeddings-user")}
    rerank = {"model": RERANKING, "query": run.both("rerank-query"), "documents": [run.both("rerank"), "other"]}
    tool = f"/api/tools/{TOOL}/call"
    return [
        ("chat", chat, chatted(REMOTE, "chat"), ok),
        ("chat-stream", chat, chatted(REMOTE, "chat-stream", stream=True), ok),
        ("chat-clean", chat, clean, ok),
        ("chat-clean-stream", chat, {**clean, "stream": True}, ok),
        ("chat-large", chat, {"model": REMOTE, "messages": large("chat-large")}, ok),
        (
            "responses-large",
            "/v1/responses",
            {"model": REMOTE, "input": large("responses-large")[0]["content"]},
            ok,
        ),
        ("chat-local", chat, chatted(LOCAL, "chat-local"), ok),
        ("provider-error", chat, chatted(REMOTE, "provider-error", f"{REFUSE_WORD} for"), refused),
        ("responses", "/v1/responses", {"model": REMOTE, "input": f"Write to {run.both('responses')}."}, ok),
        ("messages", "/v1/messages", message, ok),
        ("messages-cited", "/v1/messages", cited, ok),
        ("messages-cited-stream", "/v1/messages", {**cited, "stream": True}, ok),
        ("cached", chat, {**clean, "model": CACHED}, ok),
        ("cached-thinking", chat, {**clean, "model": THOUGHT}, ok),
        ("embeddings", "/v1/embeddings", embed, ok),
        ("rerank", "/v1/rerank", rerank, ok),
        ("ask", chat, chatted(ASKING, "ask", f"{question} Tell"), ok),
        ("ask-stream", chat, chatted(ASKING, "ask-stream", f"{question} Tell", stream=True), ok),
        ("quote", chat, {"model": QUOTING, "messages": [{"role": "user", "content": question}]}, ok),
        ("search-app", chat, chatted(SEARCHING, "search-app", question), ok),
        ("search", "/api/search", {"query": f"{question} {run.both('search')}", "collections": [COLLECTION]}, ok),
        ("tool", tool, {"arguments": told_by_tool(run, "tool")}, ok),
        ("tool-error", tool, {"arguments": {**told_by_tool(run, "tool-error"), "fails": True}}, (503,)),
    ]


def acting_request(run: Run) -> Request:
    """A call that waits for an approval, and fails once it has one; the words of its failure hold a secret."""
    arguments = {"text": run.secret("acting"), "backwards": run.secret("acting-own")[::-1], "fails": True}
    return "acting", f"/api/tools/{ACTING_TOOL}/call", {"arguments": arguments}, (202,)


def analytics_requests(run: Run) -> list[Request]:
    """Questions on the database, by words and by the name of one that there is not."""
    ask = f"/api/analytics/{ANALYTICS}/ask"

    def asked(word: str, path: str) -> dict[str, Any]:
        return {"question": f"{word}: what did {run.both(path)} pay?"}

    return [
        ("analytics", ask, asked(ROWS_WORD, "analytics"), (200,)),
        ("analytics-near", ask, asked(NEAR_WORD, "analytics-near"), (200,)),
        ("analytics-none", ask, asked(NONE_WORD, "analytics-none"), (200,)),
        ("analytics-own", ask, asked(OWN_WORD, "analytics-own"), (200,)),
        ("analytics-name", f"/api/analytics/{ANALYTICS}/run/{_named(run)}", {}, (404,)),
    ]


def _named(run: Run) -> str:
    run.person("analytics-name")
    return run.mail_of("analytics-name")


def rows_of(run: Run) -> list[tuple[str, str, int]]:
    """The table ``ledger`` of the database: who, a note, and a fee."""
    return [(run.person("books"), f"{KEPT_BY} with the key {run.secret('books')}", 35)]


def replies_of(run: Run) -> dict[str, str]:
    """What the model makes of the questions on the database: statements under a title, or why there are none."""
    run.person("analytics-title")

    def plan(title: str, where: str = "") -> str:
        sql = f"SELECT person, note, fee FROM ledger{where}"  # noqa: S608 - constants, for a model to say
        query = {"name": "result", "source": BOOKS, "sql": sql}
        return msgspec.json.encode({"plan": {"title": title, "queries": [query]}}).decode()

    unanswerable = msgspec.json.encode({"unanswerable": f"only {run.both('analytics-reason')} knows"}).decode()
    return {
        ROWS_WORD: plan(f"Fees of {run.mail_of('analytics-title')}"),
        NEAR_WORD: plan("Fees", f" WHERE note = '{KEPT_BY}'"),
        OWN_WORD: plan(""),
        NONE_WORD: unanswerable,
    }


def told_by_tool(run: Run, path: str) -> dict[str, Any]:
    """Arguments with values, and a secret backwards that the tool turns round: a source's own word, of no caller."""
    return {"text": run.both(path), "backwards": run.secret(f"{path}-own")[::-1]}
