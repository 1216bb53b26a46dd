"""Changing a manifest's text by insertion, so that every comment and every other line stays as its author wrote it.

`roadbed models add` calls it. Pure: text in, text out; places are found by the positions that the YAML parser gives.
The caller checks the result as a whole workspace before it writes.
"""

from __future__ import annotations

import yaml

from roadbed.kernel.config import nearest
from roadbed.kernel.errors import ConfigError, NotFound

INDENT = "  "


class NoSuchApp(NotFound):
    """The manifest declares no app of this name."""

    code = "manifest.no_such_app"


def add_model(text: str, name: str, ladder: list[str], *, comment: str = "", app: str = "") -> str:
    """The manifest with a model route ``name`` added, which ``app`` uses when one is named.

    The route stands after those that are there, so that the first one stays the default. Raises `ConfigError` when
    there is a model of this name, `NoSuchApp`.
    """
    if app:
        text = _use_model(text, name, app)
    root = _root(text)
    models = _value(root, "models")
    entry = f"{name}: {{ladder: [{', '.join(ladder)}]}}"
    if models is None or (isinstance(models, yaml.ScalarNode) and not models.value):
        if models is not None:
            position = _line_end(text, models.start_mark.index)
            return _insert(text, position, f"\n{INDENT}{entry}")
        note = f"# {comment}\n" if comment else ""
        return f"{text.rstrip()}\n\n{note}models:\n{INDENT}{entry}\n"
    if not isinstance(models, yaml.MappingNode):
        raise ConfigError("`models` must be a mapping of keys", line=models.start_mark.line + 1)
    if any(key.value == name for key, _ in models.value):
        raise ConfigError(f"there is a model named `{name}` already", hint="give the new one another name with --name")
    if models.flow_style:
        rest = ", " if models.value else ""
        return _insert(text, models.start_mark.index + 1, entry + rest)
    indent = " " * models.value[0][0].start_mark.column
    note = f"\n{indent}# {comment}" if comment else ""
    return _insert(text, _line_end(text, _end(models)), f"{note}\n{indent}{entry}")


def _use_model(text: str, name: str, app: str) -> str:
    apps = _value(_root(text), "apps")
    known = [key.value for key, _ in apps.value] if isinstance(apps, yaml.MappingNode) else []
    found = _value(apps, app) if isinstance(apps, yaml.MappingNode) else None
    if not isinstance(found, yaml.MappingNode) or not found.value:
        hint = nearest(app, known) or f"apps: {', '.join(known) or 'none'}"
        raise NoSuchApp(f"there is no app named `{app}`", hint=hint)
    present = _value(found, "model")
    if present is not None:
        return text[: present.start_mark.index] + name + text[present.end_mark.index :]
    key, value = found.value[0]
    if found.flow_style:
        return _insert(text, _end(value), f", model: {name}")
    return _insert(text, _line_end(text, _end(value)), f"\n{' ' * key.start_mark.column}model: {name}")


def _root(text: str) -> yaml.MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("the manifest must be a mapping of keys")
    return root


def _value(node: yaml.Node, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _end(node: yaml.Node) -> int:
    """Where a node's own text ends; block collections end, for the parser, only where the next thing begins."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False) or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _line_end(text: str, position: int) -> int:
    """The end of the line that holds ``position``; a text that ended with its line break ends before it."""
    if position and text[position - 1 : position] == "\n":
        return position - 1
    found = text.find("\n", position)
    return len(text) if found < 0 else found


def _insert(text: str, position: int, piece: str) -> str:
    return text[:position] + piece + text[position:]
