"""`build_tools`: every tool of a manifest, made by the providers of the kinds of source. Reaches no source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from roadbed.sources.health import SourceHealth
from roadbed.sources.manifest import SourceConfig
from roadbed.sources.registry import Sources
from roadbed.tools.errors import ToolMisdeclared
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.pinning import pin_all
from roadbed.tools.providers.explore import explore_tools
from roadbed.tools.providers.platform import platform_tools
from roadbed.tools.providers.sql import declared_sql_tools
from roadbed.tools.types import Tool


def build_tools(
    sources: Mapping[str, SourceConfig],
    tools: Mapping[str, ToolConfig],
    connections: Sources,
    key: bytes,
    others: Iterable[Tool] = (),
    *,
    states: Callable[[], Sequence[SourceHealth]] | None = None,
) -> list[Tool]:
    """The tools of a manifest. `ToolMisdeclared`, also when two have one name. ``key`` makes tokens of values.

    ``others`` were made of sources that are no databases, by those who hold their connections;
    ``states`` are those of all of them.
    """
    made = [
        *declared_sql_tools(sources, tools, connections),
        *explore_tools(sources, connections, key),
        *platform_tools(states or connections.states, sources),
        *others,
    ]
    by_name: dict[str, Tool] = {}
    for tool in made:
        other = by_name.setdefault(tool.name, tool)
        if other is not tool:
            raise ToolMisdeclared(
                f"two tools are called {tool.name}: of {other.source} and of {tool.source}",
                hint="rename the declared one",
            )
    return pin_all(made, tools, sources)
