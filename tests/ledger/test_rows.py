"""What is written as COPY text is read back as it was, by PostgreSQL's documented rules and by PostgreSQL itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from roadbed.kernel.guarded import make_guarded
from roadbed.kernel.principal import Principal
from roadbed.ledger.rows import SPAN_COLUMNS, TABLES, TRACE_COLUMNS, USAGE_COLUMNS, Lines, lines_of
from roadbed.ledger.trace import CallFacts, Trace, Usage
from roadbed.store.database import Database

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.S)
_CONTROLS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
EVIL: tuple[str, ...] = (
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\\",
    "\\.",
    "\\N",
    "\\n",
    "\\\n",
    "\0",
    "\\0",
    "\\x41",
    "\\101",
    "\\u0000",
    "\\\\u0000",
)
EVIL += (
    "\ud800",
    "\udfff",
    "\ud83d\ude00",
    "\x1f",
    "\v\f\b",
    "\x7f\x85\u2028",
    '"',
    "'",
    "NULL",
    "",
    " ",
    "é\U0001f600",
)

pieces = st.sampled_from(EVIL) | st.text(st.characters(exclude_categories=()), max_size=8)
texts = st.lists(pieces, max_size=12).map("".join)
values = (
    texts | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
)
counts = st.integers(0, 2**31 - 1)


def read_copy(lines: bytes, columns: tuple[str, ...]) -> list[dict[str, str | None]]:
    """COPY's text format, read as its documentation says. Fails where a reader would see another row or column."""
    rows: list[dict[str, str | None]] = []
    assert lines.endswith(b"\n") or not lines
    assert b"\r" not in lines, "COPY takes one kind of line break"
    for line in lines.split(b"\n")[:-1]:
        assert line != b"\\.", "the end of the data"
        fields = line.split(b"\t")
        assert len(fields) == len(columns)
        rows.append(dict(zip(columns, map(_read_field, fields), strict=True)))
    return rows


def _read_field(field: bytes) -> str | None:
    return None if field == b"\\N" else _ESCAPE.sub(_read_escape, field).decode()


def _read_escape(match: re.Match[bytes]) -> bytes:
    what = match[1]
    if what[:1] == b"x" and len(what) > 1:
        return bytes([int(what[1:], 16)])
    return bytes([int(what, 8)]) if what.isdigit() else _CONTROLS.get(what, what)


def storable(text: str) -> str:
    """What PostgreSQL can hold of a text."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def storable_value(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    # Half a pair of surrogates comes in no JSON, and so in no fact; texts may hold one all the same.
    names = texts.map(storable)
    facts = st.dictionaries(names, values.map(storable_value), max_size=4)
    trace = Trace(draw(texts), Principal(draw(texts), draw(texts)), draw(texts))
    trace.status, trace.rung, trace.error_code = draw(texts), draw(texts), draw(texts)
    trace.model, trace.duration_us = draw(texts), draw(counts)
    trace.attributes.update(draw(facts))
    for _ in range(draw(st.integers(0, 3))):
        span = trace.open_span(draw(texts), draw(texts))
        trace.close_span(span, **draw(st.dictionaries(st.just("fact"), values.map(storable_value), max_size=1)))
    for _ in range(draw(st.integers(0, 2))):
        used = Usage(draw(texts), draw(texts), draw(texts))
        used.input_uncached, used.cache_write = draw(st.integers(0, 2**20)), draw(st.integers(0, 2**20))
        trace.usage.append(used)
    if draw(st.booleans()):
        trace.question = make_guarded(draw(texts), sink="record")
    if draw(st.booleans()):
        trace.answer = make_guarded(draw(texts) * 50, sink="record")
    return trace


def hostile() -> Trace:
    """Everything that has a meaning in COPY's format, in every text."""
    trace = Trace("\t".join(EVIL), Principal("\\", "\\\n"), "\\.")
    trace.rung, trace.error_code, trace.model = "\\.\n", "\r\n\\.\r\n", "\\N"
    trace.question = make_guarded("\n\\.\n", sink="record")
    trace.answer = make_guarded("\\\t\ud800\0" * 4000, sink="record")
    trace.attributes["\0\\u0000\t"] = "\\\0\n\\\\\0\0\\"
    with trace.span("\\N", "\t\n"):
        pass
    trace.usage.append(Usage("\\\\", "\n", "\t"))
    return trace


def check(trace: Trace, rows: tuple[list[dict[str, Any]], ...]) -> None:
    """The rows say what the trace says."""
    (row,), spans, usage = rows
    asked, answered = trace.question, trace.answer
    assert row["id"] == trace.id
    for column, text in (
        ("app", trace.app),
        ("release", trace.release),
        ("principal", trace.principal.id),
        ("team", trace.principal.team),
        ("rung", trace.rung),
        ("status", trace.status),
        ("error_code", trace.error_code),
        ("model", trace.model),
        ("question", asked.text if asked is not None else None),
        ("answer", answered.text if answered is not None else None),
    ):
        assert row[column] == (storable(text) if text is not None else None), column
    assert int(row["duration_us"]) == trace.duration_us
    assert int(row["input_tokens"]) == sum(used.input_tokens for used in trace.usage)
    assert as_time(row["started"]) == trace.started
    assert as_facts(row["attributes"]) == shown(trace.attributes)
    assert [(s["name"], s["kind"], s["status"]) for s in spans] == [
        (storable(span.name), storable(span.kind), span.status) for span in trace.spans
    ]
    assert [as_facts(s["attributes"]) for s in spans] == [shown(span.attributes) for span in trace.spans]
    assert [(u["endpoint"], u["model"], u["route"], int(u["cache_write"])) for u in usage] == [
        (storable(used.endpoint), storable(used.model), storable(used.route), used.cache_write) for used in trace.usage
    ]


def as_time(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.strptime(value + "00", "%Y-%m-%d %H:%M:%S.%f%z")


def as_facts(value: Any) -> Any:
    facts = msgspec.json.decode(value) if isinstance(value, str) else value
    return {name: comparable(fact) for name, fact in facts.items()}


def comparable(value: Any) -> Any:
    """PostgreSQL keeps numbers exactly, and writes a large float as an integer."""
    return float(value) if type(value) is int else value


def shown(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as JSON gives them back; NUL is not stored in names either."""
    return {storable(name): comparable(storable_value(value)) for name, value in facts.items()}


@given(traces())
@example(hostile())
def test_copy_text_is_read_back_as_it_was(trace: Trace) -> None:
    lines = lines_of(trace, keep_content=True)
    read = tuple(read_copy(part, columns) for part, (_, columns, _) in zip(lines, TABLES, strict=True))
    check(trace, read)


@given(traces())
def test_no_question_or_answer_is_written_where_content_is_off(trace: Trace) -> None:
    (row,) = read_copy(lines_of(trace, keep_content=False)[0], TRACE_COLUMNS)
    assert (row["question"], row["answer"]) == (None, None)


COUNTS = st.integers(0, 2**31 - 1)


@given(
    st.lists(st.text(max_size=8), min_size=3, max_size=3),
    st.booleans(),
    st.one_of(st.none(), st.floats(0, 1e9).map(lambda ms: round(ms, 1))),
    st.lists(COUNTS, min_size=8, max_size=8),
)
def test_a_trace_of_one_call_is_written_alike_with_and_without_its_span(
    names: list[str], is_local: bool, first_token_ms: float | None, counts: list[int]
) -> None:
    def made() -> Trace:
        trace = Trace("fast", Principal("k", "t"))
        trace.id, trace.started_us = "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_709_164_799_999_999
        start_us, duration_us, *tokens, cost = counts
        route, endpoint, model = names
        used = (*tokens, "reported", cost)
        facts = CallFacts(route, endpoint, model, is_local, start_us, duration_us, first_token_ms, *used)  # type: ignore[arg-type]
        trace.note_call(facts)
        return trace

    short, long = made(), made()
    assert len(long.spans) == len(long.usage) == 1
    assert short.only_call is not None
    assert long.only_call is None
    assert lines_of(short, keep_content=True) == lines_of(long, keep_content=True)
    assert short.only_call is not None


def test_times_are_those_of_their_second() -> None:
    trace = Trace("a", Principal("k", "t"))
    for at_us in (0, 1, 999_999, 1_000_000, 951_782_400_000_000, 1_709_164_799_999_999, 4_102_444_800_000_000, 999_999):
        trace.started_us = at_us
        (row,) = read_copy(lines_of(trace, keep_content=True)[0], TRACE_COLUMNS)
        assert as_time(row["started"]) == datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(
            microsecond=at_us % 1_000_000
        )


async def test_postgres_reads_what_was_written(database: Database) -> None:
    """The real server, on the fixed worst case and on a hundred drawn ones."""
    drawn: list[Trace] = [hostile()]

    @given(traces())
    def draw(trace: Trace) -> None:
        drawn.append(trace)

    draw()
    written: list[Lines] = [lines_of(trace, keep_content=True) for trace in drawn]
    for (table, columns, _), lines in zip(TABLES, zip(*written, strict=True), strict=True):
        async with database.transaction() as connection:
            await connection.copy_to_table(table, source=_source(b"".join(lines)), columns=columns, format="text")
    for trace in drawn:
        found = []
        for table, columns, key in (
            ("trace", TRACE_COLUMNS, "id"),
            ("span", SPAN_COLUMNS, "trace_id"),
            ("usage", USAGE_COLUMNS, "trace_id"),
        ):
            order = "number" if table == "span" else "id"
            rows = await database.fetch(
                f"SELECT {', '.join(columns)} FROM {table} WHERE {key} = $1 ORDER BY {order}", trace.id
            )
            found.append([dict(row) for row in rows])
        check(trace, tuple(found))


async def _source(data: bytes) -> Any:
    yield data
