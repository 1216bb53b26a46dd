"""Decoding: every error has its file and line, and unknown names their nearest known one."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN, NAME_PATTERN, Document, decode, parse_duration_s, parse_yaml
from roadbed.kernel.errors import ConfigError


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="files", tag_field="type"):
    path: str


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="table", tag_field="type"):
    name: str
    rows: Annotated[int, Meta(ge=1)] = 1


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    sources: dict[str, Files | Table] = {}
    words: list[str] = []
    size: int | None = None
    kind: Literal["copilot", "search"] = "search"
    wait: Annotated[str, Meta(pattern=DURATION_PATTERN)] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    called: Annotated[str, Meta(pattern=NAME_PATTERN)] = ""


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode(parse_yaml(text), Root)
    return [str(caught.value), *map(str, caught.value.others)]


def test_a_valid_document_becomes_its_struct() -> None:
    root = decode(parse_yaml("name: a\nsources: {x: {type: table, name: t, rows: 3}}\nwords: [no, on]\nsize:\n"), Root)
    assert root == Root("a", {"x": Table("t", 3)}, ["no", "on"], None)


def test_yaml_is_read_with_the_core_schema() -> None:
    value = parse_yaml("a: yes\nb: true\nc: 012\nd: 1e3\ne: ~\nf: '1'\ng: 12:30:00").value
    assert value == {"a": "yes", "b": True, "c": 12, "d": 1000.0, "e": None, "f": "1", "g": "12:30:00"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nsorces: {}", "roadbed.yaml:2: unknown key `sorces` in the manifest (did you mean `sources`?)"),
        ("name: 3", "roadbed.yaml:1: `name`: expected text, got a whole number"),
        ("name: " + "9" * 5000, "roadbed.yaml:1: `name`: expected text, got a number"),
        ("words: [a]", "roadbed.yaml:1: the manifest needs `name`"),
        ("name: a\nname: b", "roadbed.yaml:2: the key 'name' stands here twice"),
        ("name: a\nsources:\n  x: {type: fles, path: p}", "roadbed.yaml:3: 'fles' is not a known type (did you mean"),
        ("name: a\nsources:\n  x: {path: p}", "roadbed.yaml:3: `sources.x` needs `type` (one of files, table)"),
        (
            "name: a\nsources:\n  x:\n    type: table\n    name: t\n    rows: 0",
            "roadbed.yaml:6: `sources.x.rows`: expected",
        ),
        (
            "name: a\nkind: copilto",
            "roadbed.yaml:2: `kind`: 'copilto' is none of copilot, search (did you mean `copilot`?)",
        ),
        (
            "name: a\nwait: 20 seconds",
            "roadbed.yaml:2: `wait`: '20 seconds' is not a duration (write for example 800ms",
        ),
        ("name: a\nwords: x", "roadbed.yaml:2: `words`: expected a list, got text"),
        ("name: [", "roadbed.yaml:1: not valid YAML"),
        (
            "name:\n\t- a",
            "roadbed.yaml:2: not valid YAML: found character '\\t' that cannot start any token (indent with",
        ),
        ("name: a: b", "roadbed.yaml:1: not valid YAML: mapping values are not allowed here (begin a new line below a"),
        ("name: a\nshare: 5", "roadbed.yaml:2: `share`: 5 is not a number from 0 to 1"),
        ("name: a\ncount: 0", "roadbed.yaml:2: `count`: 0 is not a whole number from 1 to 9"),
        ("name: a\ncalled: my app", "roadbed.yaml:2: `called`: 'my app' is not a name (it begins with a letter and"),
        ("- a", "roadbed.yaml:1: the manifest must be a mapping of keys, not a list"),
        ("a: &x [*x]", "roadbed.yaml:1: the document contains itself"),
    ],
)
def test_an_error_says_where_and_what(text: str, expected: str) -> None:
    assert errors_of(text)[0].startswith(expected)


def test_all_errors_of_a_file_are_found_in_line_order() -> None:
    found = errors_of("nme: a\nsources:\n  x: {type: files, pth: p}\nsize: big\n")
    assert [line.split(":")[1] for line in found] == ["1", "1", "3", "3", "4"]


def test_lines_fall_back_to_the_nearest_parent() -> None:
    document = Document({}, {(): 1, ("a",): 7}, "f.yaml")
    assert document.line(("a", "b", "c")) == 7


@given(st.text(max_size=300))
def test_any_text_is_decoded_or_refused_with_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        decode(parse_yaml(text), Root)


@pytest.mark.parametrize(("text", "seconds"), [("800ms", 0.8), ("20s", 20), ("5m", 300), ("2 h", 7200), ("7d", 604800)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "20", "s", "-1s", "1w", "1s2"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_duration_s(text)


def test_a_document_that_means_more_than_it_says_is_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
    )
    for text in (bomb, "a: " + "[" * 20_000 + "]" * 20_000, "a: " + "{b: " * 3_000 + "1" + "}" * 3_000):
        with pytest.raises(ConfigError):
            parse_yaml(text)


def test_a_duration_is_one_that_can_be_waited_for() -> None:
    for text in ("99999999999999d", "36501d"):
        with pytest.raises(ConfigError):
            parse_duration_s(text)
    assert parse_duration_s("36500d") == 36_500 * 86_400
