"""Adding a source to a manifest's text by insertion: `roadbed source add` calls it. Pure, as `edit.py`."""

from __future__ import annotations

import json

import yaml

from roadbed.kernel.errors import ConfigError

INDENT = "  "


def add_source(text: str, name: str, settings: dict[str, object], *, comment: str = "") -> str:
    """The manifest with a source added after those that are there. `ConfigError` when its name is taken."""
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("the manifest must be a mapping of keys")
    lines = [f"{INDENT}# {comment}"] if comment else []
    lines += [f"{INDENT}{name}:", *(f"{INDENT * 2}{key}: {_written(value)}" for key, value in settings.items())]
    found = next((value for key, value in root.value if key.value == "sources"), None)
    if found is None or (isinstance(found, yaml.ScalarNode) and not found.value):
        if found is not None:
            end = text.find("\n", found.start_mark.index)
            end = len(text) if end < 0 else end
            return text[:end] + "\n" + "\n".join(lines) + text[end:]
        return f"{text.rstrip()}\n\nsources:\n" + "\n".join(lines) + "\n"
    if not isinstance(found, yaml.MappingNode) or found.flow_style:
        raise ConfigError(
            "`sources` is written in one line", hint="write it as a block, a source a line, then try again"
        )
    if any(key.value == name for key, _ in found.value):
        raise ConfigError(f"there is a source named `{name}` already", hint="give the new one another name with --name")
    indent = " " * found.value[0][0].start_mark.column
    block = "\n".join(line.replace(INDENT, indent, 1) for line in lines)
    # After the last source, before comments and blank lines that belong to what follows.
    end = len(text[: _end_of(found)].rstrip())
    end = text.find("\n", end)
    return text[:end] + "\n\n" + block + text[end:] if end >= 0 else f"{text}\n\n{block}\n"


def _end_of(node: yaml.Node) -> int:
    """Where the last word of a value ends; a block's own mark stands after the comments that follow it."""
    while isinstance(node, yaml.MappingNode | yaml.SequenceNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def _written(value: object) -> str:
    return (
        value if isinstance(value, str) and value.replace("_", "").isalnum() else json.dumps(value, ensure_ascii=False)
    )
