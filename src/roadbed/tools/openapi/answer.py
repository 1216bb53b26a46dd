"""What an API answered, as a tool's result: JSON or text, checked loosely, cut to whole items. Pure.

Documents of APIs are rarely exact, so that only what would mislead is refused: no JSON where JSON is promised, an
object where a list is. Fields that are ``writeOnly`` are taken out. What follows is found in a ``Link`` header or in
the usual fields, and becomes a cursor that holds query parameters and nothing else. The invariant: a result is within
its bound, and a cursor leads to the same operation alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from roadbed.sources.egress import EgressResponse
from roadbed.sources.errors import AnswerRefused
from roadbed.tools.openapi.operations import Operation, is_json
from roadbed.tools.openapi.schemas import HIDDEN_MARK
from roadbed.tools.outside_text import MESSAGE_CHARACTERS_MAX, cleaned

DEPTH_MAX = 60
CHECKED_DEPTH_MAX = 12
CURSOR_CHARACTERS_MAX = 1_200
ROOM_BYTES = 2 * 1024
_TEXT = frozenset(("text/plain", "text/csv", "text/markdown", "text/tab-separated-values"))
_LINK = re.compile(r"<([^<>\s]{1,4096})>\s*((?:;\s*[^;,]+)*)")
_REL_NEXT = re.compile(r"""rel\s*=\s*(?:"[^"]*\bnext\b[^"]*"|'[^']*\bnext\b[^']*'|next\b)""", re.IGNORECASE)

# Field of the answer -> the query parameters that may take its value, the likeliest first.
_CURSOR_FIELDS: dict[str, tuple[str, ...]] = {
    "next_page_token": ("page_token", "pageToken", "next_page_token"),
    "nextPageToken": ("pageToken", "page_token", "nextPageToken"),
    "next_cursor": ("cursor", "next_cursor", "after", "starting_after"),
    "nextCursor": ("cursor", "nextCursor", "after"),
    "next_token": ("next_token", "token", "continuation_token"),
    "nextToken": ("nextToken", "token"),
    "continuation": ("continuation", "continue"),
    "next_page": ("page", "page_number", "pageNumber"),
    "nextPage": ("page", "pageNumber", "page_number"),
    "next_offset": ("offset", "skip", "start"),
    "after": ("after", "cursor"),
    "end_cursor": ("after", "cursor"),
}
_WRAPPERS = (
    "meta", "metadata", "pagination", "paging", "page_info", "pageInfo", "response_metadata", "cursors", "links",
    "_links",
)  # fmt: skip
PAGE_WORDS = frozenset(
    (
        "page", "page_number", "pageNumber", "page_token", "pageToken", "cursor", "after", "before", "offset", "skip",
        "start", "starting_after", "marker", "continuation", "continuation_token", "next_token", "nextToken", "token",
        "since", "limit", "per_page", "perPage", "page_size", "pageSize", "size", "count", "$skiptoken", "$skip",
        "$top",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """A result: its data, whether something was cut off, and the cursor of what follows."""

    data: Any
    is_cut: bool
    cursor: str


def read_answer(operation: Operation, response: EgressResponse, bytes_max: int) -> Answer:
    """The result in a good answer. Raises `AnswerRefused`."""
    data = content_of(response)
    if data is not None and operation.answer_schema is not None and is_json(_media_type(response)):
        data = checked_answer(data, operation.answer_schema, operation.operation_id)
    cursor = next_cursor(operation, response, data)
    data, is_cut = cut(data, bytes_max - ROOM_BYTES)
    return Answer({"status": response.status, "data": data}, is_cut, "" if is_cut else cursor)


def content_of(response: EgressResponse) -> Any:
    """The body as JSON or text; None when there is none. Raises `AnswerRefused`."""
    if not response.body:
        return None
    media_type = _media_type(response)
    if is_json(media_type):
        try:
            data = msgspec.json.decode(response.body)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise AnswerRefused("the API says that it answers with JSON, and this is none") from None
        if _depth_exceeds(data, DEPTH_MAX):
            raise AnswerRefused("the answer is nested too deeply")
        return data
    if media_type in _TEXT:
        return response.body.decode("utf-8", "replace")
    raise AnswerRefused("the answer is neither JSON nor plain text")


def refusal_message(response: EgressResponse) -> str:
    """What an API says in an answer with status 4xx, cleaned: it is data of others, and short."""
    try:
        data = content_of(response)
    except AnswerRefused:
        return ""
    for _ in range(3):
        if isinstance(data, list) and data:
            data = data[0]
        if isinstance(data, Mapping):
            data = next((data[key] for key in ("detail", "message", "error", "title", "errors") if data.get(key)), "")
    return cleaned(data, MESSAGE_CHARACTERS_MAX) if isinstance(data, str) else ""


# -- checking ---------------------------------------------------------------------------------------------------------


def checked_answer(data: Any, schema: Mapping[str, Any], name: str) -> Any:
    """The data without ``writeOnly`` fields. Raises `AnswerRefused` when its outermost kind is another one."""
    if not _is_of_kind(data, schema, schema, 0):
        raise AnswerRefused(f"the answer to {name} is of another kind than its document says")
    return _without_hidden(data, schema, schema, 0)


def _without_hidden(data: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """The data less the fields that the schema marks as ``writeOnly``."""
    if not isinstance(schema, Mapping) or depth > CHECKED_DEPTH_MAX or not isinstance(data, dict | list):
        return data
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        data = _without_hidden(data, root.get("$defs", {}).get(name), root, depth + 1)
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key, ()):
            data = _without_hidden(data, part, root, depth + 1)
    if isinstance(data, list):
        return [_without_hidden(item, schema.get("items"), root, depth + 1) for item in data]
    properties, hidden = schema.get("properties", {}), schema.get(HIDDEN_MARK, ())
    return {
        key: _without_hidden(value, properties.get(key), root, depth + 1)
        for key, value in data.items()
        if key not in hidden
    }


def _is_of_kind(data: Any, schema: Any, root: Mapping[str, Any], depth: int) -> bool:
    """Whether the outermost kind fits: object, list, or a plain value."""
    if not isinstance(schema, Mapping) or depth > CHECKED_DEPTH_MAX:
        return True
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return _is_of_kind(data, root.get("$defs", {}).get(name), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(parts := schema.get(key), list) and not any(
            _is_of_kind(data, part, root, depth + 1) for part in parts
        ):
            return False
    if isinstance(parts := schema.get("allOf"), list) and not all(
        _is_of_kind(data, part, root, depth + 1) for part in parts
    ):
        return False
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else kind
    return not isinstance(kinds, list) or _kind(data) in {_KINDS.get(name, "plain") for name in kinds} or data is None


_KINDS = {"object": "object", "array": "array"}


def _kind(data: Any) -> str:
    return "object" if isinstance(data, dict) else "array" if isinstance(data, list) else "plain"


def _depth_exceeds(data: Any, left: int) -> bool:
    if left < 0:
        return True
    inner: Any = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return any(_depth_exceeds(part, left - 1) for part in inner if isinstance(part, dict | list))


# -- cutting ----------------------------------------------------------------------------------------------------------


def cut(data: Any, bytes_max: int) -> tuple[Any, bool]:
    """Data within a bound, and whether some was left out: whole items of its longest list, or the head of a text."""
    size = len(msgspec.json.encode(data))
    if size <= bytes_max:
        return data, False
    if isinstance(data, str):
        return data.encode("utf-8")[: bytes_max // 2].decode("utf-8", "ignore"), True
    if isinstance(data, list):
        return _items_within(data, bytes_max), True
    if isinstance(data, dict):
        lists = {key: value for key, value in data.items() if isinstance(value, list)}
        if lists:
            longest = max(lists, key=lambda key: len(msgspec.json.encode(lists[key])))
            frame = len(msgspec.json.encode({**data, longest: []}))
            if frame < bytes_max:
                return {**data, longest: _items_within(data[longest], bytes_max - frame)}, True
    raise AnswerRefused(f"the answer has {size} bytes, over the bound of {bytes_max}, and is no list that could be cut")


def _items_within(items: list[Any], bytes_max: int) -> list[Any]:
    used, kept = 2, []
    for item in items:
        used += len(msgspec.json.encode(item)) + 1
        if used > bytes_max:
            break
        kept.append(item)
    return kept


# -- what follows -----------------------------------------------------------------------------------------------------


def next_cursor(operation: Operation, response: EgressResponse, data: Any) -> str:
    """The cursor of what follows an answer; empty when nothing does, or it is not known how to ask for it."""
    if operation.method != "GET":
        return ""
    following = _from_link(operation, response) or _from_fields(operation, response, data)
    if not following:
        return ""
    text = msgspec.json.encode(following).decode("utf-8")
    return text if len(text) <= CURSOR_CHARACTERS_MAX else ""


def query_of_cursor(operation: Operation, cursor: str) -> dict[str, str]:
    """The query parameters in a cursor. Raises `AnswerRefused` for one that this file did not make."""
    try:
        found = msgspec.json.decode(cursor, type=dict[str, str])
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise AnswerRefused("the cursor is not one of this tool", hint="call again without it") from None
    if dict(_known(found.items(), operation)) != found:
        raise AnswerRefused("the cursor is not one of this tool", hint="call again without it")
    return found


def _from_link(operation: Operation, response: EgressResponse) -> dict[str, str]:
    for name, value in response.headers:
        if name == b"link":
            for match in _LINK.finditer(value.decode("latin-1")[:16_384]):
                if _REL_NEXT.search(match[2]):
                    return _query_of(operation, response, match[1])
    return {}


def _from_fields(operation: Operation, response: EgressResponse, data: Any) -> dict[str, str]:
    for part in _parts_with_cursors(data):
        if part.get("has_more") is False or part.get("hasNextPage") is False:
            return {}
        link = part.get("next")
        if isinstance(link, Mapping):
            link = link.get("href") or link.get("after")
        is_link = isinstance(link, str) and link.startswith(("/", "?", "http://", "https://"))
        if is_link and (found := _query_of(operation, response, str(link))):
            return found
        for key, names in _CURSOR_FIELDS.items():
            value = part.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                name = next((name for name in names if name in operation.query_names), None)
                if name is not None:
                    return {name: str(value)}
    return {}


def _parts_with_cursors(data: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [(data, 0)]
    while waiting:
        part, depth = waiting.pop(0)
        if isinstance(part, Mapping):
            yield part
            if depth < 2:
                waiting += [(part[key], depth + 1) for key in _WRAPPERS if key in part]


def _query_of(operation: Operation, response: EgressResponse, link: str) -> dict[str, str]:
    """The query of a link to the same address, without what is no parameter of the operation."""
    try:
        parts = urlsplit(link)
        pairs = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=60)
    except ValueError:
        return {}
    own_path = response.url.target.decode("ascii").partition("?")[0]
    if (
        parts.netloc
        and parts.netloc.encode("idna" if parts.netloc.isascii() else "utf-8") != response.url.origin.host_header
    ):
        return {}
    if parts.path and parts.path != own_path:
        return {}
    return dict(_known(pairs, operation))


def _known(pairs: Iterable[tuple[str, str]], operation: Operation) -> Iterator[tuple[str, str]]:
    """Those that a caller could send or that name a page; never a credential that the API sent back to us."""
    for name, value in pairs:
        if (name in operation.query_names or name in PAGE_WORDS) and name.lower() not in operation.hidden_names:
            yield name, value


def _media_type(response: EgressResponse) -> str:
    return response.get(b"content-type").decode("latin-1").partition(";")[0].strip().lower()
