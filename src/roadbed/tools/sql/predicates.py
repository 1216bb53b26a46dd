"""Row filters: a predicate of the manifest with places for the caller, compiled into text with quoted literals.

So that all callers share a verdict, the gate is shown literals that stand for the places (`shared_predicate`), and the
caller's own are put in afterwards (`filled`). What stands for a place is a secret of the process, which no statement
holds.

The values come from the caller's identity and never from a setting of the database session, which a statement could
change. The invariant: a value is one string literal of the result, whatever characters it holds, or it is refused.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from roadbed.kernel.principal import Principal
from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql.errors import SqlRefused

PREDICATE_CHARACTERS_MAX = 4096
VALUE_CHARACTERS_MAX = 256
PRINCIPAL_PLACES = ("principal.id", "principal.team", "principal.region", "principal.name")

# The parser warns about what it does not understand with the text itself, which belongs into no log.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

WEIGHT_MAX = 16_384
"""A text of 16 KiB has some 5,000 tokens."""
DOUBLINGS_MAX = 20

_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})
_COPIED = frozenset({"SORT_ARRAY"})
_NO_WORDS = _OPENING | {None, TokenType.SELECT, TokenType.COMMA, TokenType.EQ, TokenType.COLON}

STUMBLES = (ValueError, TypeError, LookupError, AttributeError)
"""What the parser and the writer raise over texts that nobody thought of, such as ``INTERVAL x''``."""

_MARK = f"roadbed-{secrets.token_hex(16)}-"
_MARKED = re.compile(f"'{_MARK}([a-z.]+)'")
_NOBODY = Principal(id="", team="")
_COLOURS = re.compile(r"\x1b\[[0-9]*m")
_PLACE = re.compile(r"\{([^{}]*)\}")


def predicate_for(template: str, principal: Principal, dialect: SqlDialect) -> str:
    """``team = {principal.team}`` with the caller's team as a literal. Unknown places are refused: `SqlRefused`."""
    return _compiled(template, dialect, lambda name: _literal(_value(name, principal), name))


@lru_cache(maxsize=512)
def shared_predicate(template: str, dialect: SqlDialect) -> str | None:
    """The predicate with a word of ours for each place. None where the parser would not leave such a word as it is.

    `SqlRefused` as `predicate_for`.
    """
    names: list[str] = []

    def word(name: str) -> str:
        _value(name, _NOBODY)
        names.append(name)
        return f"'{_MARK}{name}'"

    text = _compiled(template, dialect, word)
    written = parse_predicate(text, dialect).sql(dialect=dialect, comments=False, normalize_functions=False)
    return text if sorted(_MARKED.findall(written)) == sorted(names) else None


def filled(sql: str, principal: Principal) -> str:
    """A statement that passed the gate with shared predicates, with the caller's values in it. `SqlRefused`."""
    if _MARK not in sql:
        return sql
    text = _MARKED.sub(lambda found: _literal(_value(found[1], principal), found[1]), sql)
    if _MARK in text:
        raise SqlRefused("a row filter cannot be put into the statement")
    return text


def holds_mark(sql: str) -> bool:
    """Whether a text holds what stands for a place, which no caller knows."""
    return _MARK in sql


def _compiled(template: str, dialect: SqlDialect, literal: Callable[[str], str]) -> str:
    if len(template) > PREDICATE_CHARACTERS_MAX:
        raise SqlRefused(f"a row filter is over {PREDICATE_CHARACTERS_MAX} characters")
    pieces: list[str] = []
    end = 0
    for match in _PLACE.finditer(template):
        before = template[: match.start()]
        if any(before.count(quote) % 2 for quote in "'\"`"):
            raise SqlRefused(
                f"a row filter puts {match[0]} inside quotes",
                hint="leave the quotes out: the place is a literal itself",
            )
        pieces += [template[end : match.start()], literal(match[1])]
        end = match.end()
    pieces.append(template[end:])
    if any(brace in piece for piece in pieces[::2] for brace in "{}"):
        raise SqlRefused("a row filter has a brace that is not a place", hint=_places())
    text = "".join(pieces).strip()
    parse_predicate(text, dialect)
    return text


@lru_cache(maxsize=512)
def parse_predicate(text: str, dialect: SqlDialect) -> exp.Expr:
    """The condition of a row filter. The caller copies it. `SqlRefused` when it is not one condition."""
    select = parsed(f"SELECT 1 WHERE {text}", dialect)
    root = select[0] if len(select) == 1 else None
    where = root.args.get("where") if isinstance(root, exp.Select) else None
    if (
        root is None
        or where is None
        or any(value for key, value in root.args.items() if key not in ("expressions", "where"))
    ):
        raise SqlRefused("a row filter is not one condition", hint="write a condition over the table's columns")
    condition: exp.Expr = where.this
    return condition


def parsed(sql: str, dialect: SqlDialect) -> list[exp.Expr | None]:
    """The statements of a text; `SqlRefused` when the parser does not understand it."""
    try:
        engine = sqlglot.Dialect.get_or_raise(dialect)
        tokens = engine.tokenize(sql)
        if parsing_weight(tokens, engine.parser_class.TYPE_TOKENS) > WEIGHT_MAX:
            raise SqlRefused("the statement nests types and lists too deeply", hint="use WITH and fewer levels")
        return list(engine.parser().parse(tokens, sql))
    except RecursionError:
        raise SqlRefused("the statement is nested too deeply", hint="use WITH and fewer levels") from None
    except SqlglotError as error:
        raise SqlRefused(f"the statement cannot be parsed as {dialect}: {_reason(error)}") from None
    except STUMBLES:
        raise SqlRefused(f"the statement cannot be parsed as {dialect}") from None


def parsing_weight(tokens: Sequence[Token], types: Collection[TokenType]) -> int:
    """About how many times the parser looks at a token of the text, in all.

    What stands in brackets after the name of a type, or in a list after any word, is parsed twice: as the type's
    arguments, and again as a call's or an index; a few functions get an argument twice. Nested that doubles each time,
    and twenty levels would take a minute.
    """
    weight, before, word = 0, None, ""
    doubled: list[bool] = []
    depth = 0
    for token in tokens:
        kind = token.token_type
        if kind in _OPENING:
            is_list = kind is not TokenType.L_PAREN and before not in _NO_WORDS
            is_doubled = is_list or before in types or word.upper() in _COPIED
            doubled.append(is_doubled)
            depth += is_doubled
        elif kind in _CLOSING and doubled:
            depth -= doubled.pop()
        weight += 1 << min(depth, DOUBLINGS_MAX)
        before, word = kind, token.text
    return weight


def _reason(error: SqlglotError) -> str:
    return _COLOURS.sub("", str(error)).split("\n")[0][:200]


def _value(name: str, principal: Principal) -> str:
    if name not in PRINCIPAL_PLACES:
        raise SqlRefused(f"a row filter has the unknown place {{{name}}}", hint=_places())
    return str(getattr(principal, name.removeprefix("principal.")))


def _literal(value: str, name: str) -> str:
    """Quotes are doubled, which every dialect reads alike; a backslash is not read alike, so it is refused."""
    if len(value) > VALUE_CHARACTERS_MAX or "\\" in value or not value.isprintable():
        raise SqlRefused(f"the value of {{{name}}} has a backslash or a control character, or is too long for a filter")
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _places() -> str:
    return "places are " + ", ".join(f"{{{name}}}" for name in PRINCIPAL_PLACES)
