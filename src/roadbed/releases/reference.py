"""The manifest's settings as a table, and its JSON Schema, both read from the types that decode it.

Used by `roadbed docs generate` and `roadbed config`. Pure: it reads types and no file. The invariant: a setting that
is decoded stands in the table, with the default, the bounds and the description that its type carries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from roadbed.kernel.config import DURATION_PATTERN, nearest
from roadbed.kernel.errors import NotFound
from roadbed.releases.manifest import Manifest


class UnknownSetting(NotFound):
    """No key of the manifest has this name."""

    code = "manifest.unknown_setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the manifest. ``path`` is dotted, with ``NAME`` where a name of one's own stands."""

    path: str
    name: str
    type: str
    default: str
    bounds: str
    description: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Section:
    """One struct of the manifest: where it stands, what its docstring says, and its settings."""

    path: str
    title: str
    summary: str
    settings: tuple[Setting, ...]


def manifest_sections() -> list[Section]:
    """Every struct of the manifest, from the outside in; one that stands in two places alike, once."""
    return list(dict.fromkeys(_sections(inspect.type_info(Manifest), "")))


def find_settings(key: str) -> list[Setting]:
    """The settings that a dotted key means: ``apps.helpdesk.deadline``, a section such as ``apps``, or a bare name.

    A name of one's own may stand where the table has ``NAME``, or be left out. Raises `UnknownSetting`.
    """
    every = [setting for section in manifest_sections() for setting in section.settings]
    wanted = [part for part in key.strip(".").split(".") if part]
    exact = [setting for setting in every if _means(setting.path.split("."), wanted)]
    inside = [
        setting
        for section in manifest_sections()
        if section.path and _means(section.path.split("."), wanted)
        for setting in section.settings
    ]
    found = inside or exact or [setting for setting in every if [setting.name] == wanted]
    if not found:
        hint = nearest(key, {setting.path for setting in every} | {setting.name for setting in every})
        raise UnknownSetting(f"there is no setting {key[:100]!r}", hint=hint or "docs/reference/manifest.md lists them")
    return list(dict.fromkeys(found))


def _means(path: list[str], wanted: list[str]) -> bool:
    """Whether a written key stands for a table's path: own names match ``NAME`` or are left out."""
    if len(path) == len(wanted):
        return all(part in ("NAME", word) for part, word in zip(path, wanted, strict=True))
    return [part for part in path if part != "NAME"] == wanted


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of ``roadbed.yaml``, for editors."""
    schema = _with_plain_bounds(msgspec.json.schema(Manifest))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "roadbed.yaml", **schema}


def _with_plain_bounds(value: Any) -> Any:
    """Bounds without ``.0``: equal annotations share one object, so whether 1 or 1.0 is kept hangs on import order."""
    if isinstance(value, dict):
        return {
            name: _plain(item) if isinstance(item, float) else _with_plain_bounds(item) for name, item in value.items()
        }
    return [_with_plain_bounds(item) for item in value] if isinstance(value, list) else value


def _plain(bound: float | None) -> float | None:
    return int(bound) if bound is not None and bound == int(bound) else bound


def _sections(info: inspect.Type, path: str) -> Iterator[Section]:
    info, _ = _bare(info)
    if isinstance(info, inspect.StructType):
        settings = tuple(_setting(field, path) for field in info.fields)
        title = path or "the top of the file"
        if info.tag_field:
            title = f"{path} with {info.tag_field}: {info.tag}"
        yield Section(path, title, " ".join((info.cls.__doc__ or "").split()), settings)
        for field in info.fields:
            yield from _sections(field.type, f"{path}.{field.encode_name}".lstrip("."))
    elif isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _sections(member, path)
    elif isinstance(info, inspect.DictType):
        yield from _sections(info.value_type, f"{path}.NAME")


def _setting(field: inspect.Field, path: str) -> Setting:
    info, description = _bare(field.type)
    return Setting(
        path=f"{path}.{field.encode_name}".lstrip("."),
        name=field.encode_name,
        type=type_text(info),
        default="" if field.required else _default(field),
        bounds=bounds_text(info),
        description=description,
        is_required=field.required,
    )


def _bare(info: inspect.Type) -> tuple[inspect.Type, str]:
    description = ""
    while isinstance(info, inspect.Metadata):
        description = description or str((info.extra_json_schema or {}).get("description", ""))
        info = info.type
    return info, description


def type_text(info: inspect.Type) -> str:
    """A type in words that stand in YAML: ``text``, ``list of text``, ``search or copilot``."""
    info, _ = _bare(info)
    match info:
        case inspect.StrType():
            return "duration" if info.pattern == DURATION_PATTERN else "text"
        case inspect.IntType():
            return "whole number"
        case inspect.FloatType():
            return "number"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in info.values)
        case inspect.ListType() | inspect.VarTupleType():
            return f"list of {type_text(info.item_type)}"
        case inspect.DictType():
            return f"mapping of names to {type_text(info.value_type)}"
        case inspect.StructType():
            return "mapping"
        case inspect.AnyType():
            return "any value"
        case inspect.UnionType():
            members = [type_text(member) for member in info.types if not isinstance(member, inspect.NoneType)]
            return " or ".join(dict.fromkeys(members))
        case _:
            raise TypeError(f"a setting of type {info!r} has no words")


def bounds_text(info: inspect.Type) -> str:
    """The bounds of a value in words; empty when there are none worth saying."""
    info, _ = _bare(info)
    if isinstance(info, inspect.UnionType):
        return next((text for member in info.types if (text := bounds_text(member))), "")
    if isinstance(info, inspect.IntType | inspect.FloatType):
        least, most = _plain(info.ge), _plain(info.le)
        if least is not None and most is not None:
            return f"{least} to {most}"
        return f"{least} or more" if least is not None else ""
    if isinstance(info, inspect.ListType) and info.max_length is not None:
        return f"at most {info.max_length}"
    if isinstance(info, inspect.StrType | inspect.ListType) and info.min_length:
        return "not empty"
    return ""


def _default(field: inspect.Field) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        value = field.default
    if value is None:
        return "left out"
    if isinstance(value, msgspec.Struct):
        return "its own defaults"
    if isinstance(value, tuple):
        value = list(value)
    return msgspec.json.encode(value).decode()
