"""Words for people: types of JSON and YAML in plain words."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from roadbed.kernel.wording import types_in_words


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A body of a request."""

    k: Annotated[int, msgspec.Meta(ge=1)] = 1
    query: str | None = None
    names: list[str] = []
    flag: bool = msgspec.field(name="int", default=False)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"k": "x"}, "Expected a whole number, got text"),
        ({"query": 3}, "Expected text or null, got a whole number"),
        ({"names": {}}, "Expected a list, got an object"),
        ([], "Expected an object, got a list"),
        ({"int": 1.5}, "Expected true/false, got a number"),
        ({"k": 0}, "Expected a whole number >= 1"),
        ({"str": 1}, "Object contains unknown field `str`"),
    ],
)
def test_types_are_said_in_plain_words_and_fields_by_name(body: Any, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(msgspec.json.encode(body), type=Asked)
    assert types_in_words(str(refused.value), is_json=True).partition(" - at")[0] == said
