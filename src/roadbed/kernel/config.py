"""Configuration decoding: YAML text into one frozen typed tree, every error with its file and line.

YAML is read with the 1.2 core schema (``no`` and ``on`` are strings, not booleans) and duplicate keys are refused.
Sections are msgspec structs that each room declares; `decode` walks struct and document together, so that an unknown
key names the nearest known one, and all errors of a file are found in one pass. It knows no section itself.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.wording import types_in_words

FILE_BYTES_MAX = 4 * 1024 * 1024
NAME_PATTERN = r"^[a-zA-Z][a-zA-Z0-9_-]{0,62}$"
_YAML_HINTS = (
    ("'\\t'", "indent with spaces: YAML takes no tabs"),
    ("mapping values are not allowed", "begin a new line below a key, and put a text with a colon in quotes"),
)
ERRORS_MAX = 20
VALUES_MAX = 200_000  # an alias repeats all that it stands for, so that ten lines can mean a thousand million
DEPTH_MAX = 40

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

_CORE_SCHEMA: list[tuple[re.Pattern[str], Any]] = [
    (re.compile(r"^(|~|null|Null|NULL)$"), lambda text: None),
    (re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), lambda text: text.lower() == "true"),
    (re.compile(r"^[-+]?[0-9]{1,300}$"), int),  # longer ones are numbers to no setting, and `int` refuses the longest
    (re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"), float),
]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML file: plain values, and the line (from 1) on which each key path begins."""

    value: Any
    lines: dict[KeyPath, int]
    file: str

    def line(self, path: KeyPath) -> int:
        """The line of a key path, or of its nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, message: str, path: KeyPath = (), *, hint: str = "") -> ConfigError:
        """A `ConfigError` that points at a key path of this document."""
        return ConfigError(message, hint=hint, file=self.file, line=self.line(path))


def read_yaml(path: Path, *, shown_as: str | None = None) -> Document:
    """Read and parse one YAML file. Raises `ConfigError` with the line of the first syntax error."""
    name = shown_as or path.name
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"the file is larger than {FILE_BYTES_MAX} bytes", file=name)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8 text", file=name) from None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", file=name) from None
    return parse_yaml(text, file=name)


def parse_yaml(text: str, *, file: str = "roadbed.yaml") -> Document:
    """Parse YAML text into a `Document`. Raises `ConfigError`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = next((hint for said, hint in _YAML_HINTS if said in str(error.problem)), "")
        line = mark.line + 1 if mark else 0
        raise ConfigError(f"not valid YAML: {error.problem}", hint=hint, file=file, line=line) from None
    except yaml.YAMLError:
        raise ConfigError("not valid YAML: the file holds characters that YAML does not allow", file=file) from None
    except RecursionError:
        raise ConfigError("the document is nested too deeply", file=file) from None
    lines: dict[KeyPath, int] = {}
    value = {} if root is None else _plain(root, (), lines, file, set())
    return Document(value, lines, file)


def _plain(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str, open_nodes: set[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(lines) > VALUES_MAX:
        raise ConfigError(f"the document holds more than {VALUES_MAX} values, repeated ones counted", file=file)
    if id(node) in open_nodes or len(path) > DEPTH_MAX:
        raise ConfigError("the document contains itself or is nested too deeply", file=file, line=line)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    open_nodes.add(id(node))
    try:
        if isinstance(node, yaml.SequenceNode):
            return [_plain(item, (*path, i), lines, file, open_nodes) for i, item in enumerate(node.value)]
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("a key must be a plain word", file=file, line=key_line)
            key = str(key_node.value)
            if key in result:
                raise ConfigError(f"the key {key!r} stands here twice", file=file, line=key_line)
            lines[(*path, key)] = key_line
            result[key] = _plain(value_node, (*path, key), lines, file, open_nodes)
        return result
    finally:
        open_nodes.discard(id(node))


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style in ("'", '"', "|", ">"):
        return text
    for pattern, convert in _CORE_SCHEMA:
        if pattern.match(text):
            return convert(text)
    return text


def decode(document: Document, type_: type[T]) -> T:
    """Decode a document into the struct ``type_``.

    Raises the first `ConfigError` in line order; its ``others`` hold the rest (at most `ERRORS_MAX` in all).
    """
    errors: list[ConfigError] = []
    _check(document, document.value, msgspec.inspect.type_info(type_), (), errors)
    if errors:
        errors.sort(key=lambda error: error.line)
        first = errors[0]
        first.others = tuple(errors[1:ERRORS_MAX])
        raise first
    return msgspec.convert(document.value, type_)


def _check(
    document: Document, value: Any, info: msgspec.inspect.Type, path: KeyPath, errors: list[ConfigError]
) -> None:
    if len(errors) >= ERRORS_MAX:
        return
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.UnionType):
        chosen = _choose(document, value, info, path, errors)
        if chosen is None:
            return
        info = chosen
    if isinstance(info, msgspec.inspect.StructType):
        _check_struct(document, value, info, path, errors)
    elif isinstance(info, msgspec.inspect.DictType) and isinstance(value, dict):
        for key, item in value.items():
            _check(document, item, info.value_type, (*path, key), errors)
            _check_leaf(document, key, info.key_type, (*path, key), errors, what="key")
    elif isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType) and isinstance(value, list):
        for i, item in enumerate(value):
            _check(document, item, info.item_type, (*path, i), errors)
    else:
        _check_leaf(document, value, info, path, errors)


def _choose(
    document: Document, value: Any, info: msgspec.inspect.UnionType, path: KeyPath, errors: list[ConfigError]
) -> msgspec.inspect.Type | None:
    """The member of a union that the value means: by tag for structs, else by its own shape; None when all is said."""
    members = [item.type if isinstance(item, msgspec.inspect.Metadata) else item for item in info.types]
    if value is None and any(isinstance(item, msgspec.inspect.NoneType) for item in members):
        return None
    structs = [item for item in members if isinstance(item, msgspec.inspect.StructType)]
    if isinstance(value, dict) and structs:
        if len(structs) == 1:
            return structs[0]
        tag_field = structs[0].tag_field or "type"
        by_tag = {str(item.tag): item for item in structs}
        tag = value.get(tag_field)
        if tag is None:
            errors.append(
                document.error(f"{_dotted(path)} needs `{tag_field}`", path, hint=f"one of {', '.join(by_tag)}")
            )
            return None
        if str(tag) not in by_tag:
            hint = nearest(str(tag), by_tag) or f"one of {', '.join(by_tag)}"
            errors.append(document.error(f"{tag!r} is not a known {tag_field}", (*path, tag_field), hint=hint))
            return None
        return by_tag[str(tag)]
    for item in members:
        shape = dict if isinstance(item, msgspec.inspect.DictType | msgspec.inspect.StructType) else list
        if isinstance(item, msgspec.inspect.DictType | msgspec.inspect.ListType) and isinstance(value, shape):
            return item
    _check_leaf(document, value, info, path, errors)
    return None


def _check_struct(
    document: Document, value: Any, info: msgspec.inspect.StructType, path: KeyPath, errors: list[ConfigError]
) -> None:
    if value is None and all(not field.required for field in info.fields):
        value = {}
    if not isinstance(value, dict):
        errors.append(document.error(f"{_dotted(path)} must be a mapping of keys, not {_kind(value)}", path))
        return
    fields = {field.encode_name: field for field in info.fields}
    known = {*fields, info.tag_field} if info.tag_field else set(fields)
    for key, item in value.items():
        if key not in known:
            hint = nearest(key, known) or f"known keys: {', '.join(sorted(known))}"
            errors.append(document.error(f"unknown key `{key}` in {_dotted(path)}", (*path, key), hint=hint))
        elif key in fields:
            _check(document, item, fields[key].type, (*path, key), errors)
    for name, field in fields.items():
        if field.required and name not in value:
            errors.append(document.error(f"{_dotted(path)} needs `{name}`", path))


def _check_leaf(
    document: Document, value: Any, info: msgspec.inspect.Type, path: KeyPath, errors: list[ConfigError], what: str = ""
) -> None:
    if isinstance(info, msgspec.inspect.AnyType):
        return
    try:
        msgspec.convert(value, _type_of(info))
    except msgspec.ValidationError as error:
        reason, hint = _explained(value, info, str(error).split(" - at `")[0])
        errors.append(document.error(f"{what + ' ' if what else ''}{_dotted(path)}: {reason}", path, hint=hint))


def _explained(value: Any, info: msgspec.inspect.Type, reason: str) -> tuple[str, str]:
    """What is wrong with a value, and what could stand there: the words of a choice, the form of a duration."""
    members = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    bare = [item.type if isinstance(item, msgspec.inspect.Metadata) else item for item in members]
    choices = [word for item in bare if isinstance(item, msgspec.inspect.LiteralType) for word in map(str, item.values)]
    if choices and isinstance(value, str):
        return f"{value!r} is none of {', '.join(choices)}", nearest(value, choices)
    patterns = [item.pattern or "" for item in bare if isinstance(item, msgspec.inspect.StrType)]
    if any(DURATION_PATTERN in pattern for pattern in patterns):
        return f"{value!r} is not a duration", "write for example 800ms, 20s, 5m, 2h or 7d"
    if isinstance(value, str) and NAME_PATTERN in patterns:
        return f"{value!r} is not a name", "it begins with a letter and has letters, digits, - and _, 63 at most"
    numbers = [item for item in bare if isinstance(item, msgspec.inspect.IntType | msgspec.inspect.FloatType)]
    for number in numbers if type(value) in (int, float) else ():
        if number.ge is not None and number.le is not None and not number.ge <= value <= number.le:
            noun = "whole number" if isinstance(number, msgspec.inspect.IntType) else "number"
            return f"{value} is not a {noun} from {number.ge:g} to {number.le:g}", ""
    return types_in_words(reason[:1].lower() + reason[1:]), ""


def _type_of(info: msgspec.inspect.Type) -> Any:
    """The annotation that a leaf's inspected type came from (msgspec offers only the other direction)."""
    match info:
        case msgspec.inspect.StrType():
            bounds = {"min_length": info.min_length, "max_length": info.max_length, "pattern": info.pattern}
            return _bounded(str, bounds)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            base = int if isinstance(info, msgspec.inspect.IntType) else float
            return _bounded(base, {"ge": info.ge, "le": info.le, "gt": info.gt, "lt": info.lt})
        case msgspec.inspect.BoolType():
            return bool
        case msgspec.inspect.NoneType():
            return type(None)
        case msgspec.inspect.LiteralType():
            return Literal[tuple(info.values)]
        case msgspec.inspect.UnionType():
            result = _type_of(info.types[0])
            for item in info.types[1:]:
                result = result | _type_of(item)
            return result
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            return list
        case msgspec.inspect.DictType() | msgspec.inspect.StructType():
            return dict
        case _:
            raise TypeError(f"a configuration field of type {info!r} is not supported")


def _bounded(base: type, bounds: dict[str, Any]) -> Any:
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return Annotated[base, msgspec.Meta(**given)] if given else base


def nearest(word: str, known: Any) -> str:
    """``did you mean `x`?`` for the known word nearest to this one; empty when none is near."""
    matches = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean `{matches[0]}`?" if matches else ""


def _dotted(path: KeyPath) -> str:
    if not path:
        return "the manifest"
    return "`" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".") + "`"


def _kind(value: Any) -> str:
    return {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing"}.get(
        type(value), "a number"
    )


_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)$")
_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
DURATION_PATTERN = _DURATION.pattern
DURATION_S_MAX = 36_500 * 86_400.0


def parse_duration_s(text: str) -> float:
    """Seconds of ``800ms``, ``20s``, ``5m``, ``2h`` or ``7d``. Raises `ConfigError`."""
    match = _DURATION.match(text.strip())
    if not match:
        raise ConfigError(f"{text!r} is not a duration", hint="write for example 800ms, 20s, 5m, 2h or 7d")
    seconds = float(match[1]) * _DURATION_S[match[2]]
    if seconds > DURATION_S_MAX:
        raise ConfigError(f"{text[:40]!r} is too long a duration", hint="the longest is 36500d")
    return seconds
