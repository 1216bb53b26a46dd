"""Local model engines: looked for on their usual loopback ports, told apart by what they answer and never by the port.

Ollama, llama-server, vLLM and LM Studio are known. All ports are asked at once, each within `PROBE_S`; no model is
loaded or run by a probe. An Ollama model that runs remotely is left out: it would take data out of the house. Whoever
wants to notice engines that come and go runs `EngineWatch`. The invariant: only loopback addresses are asked,
directly and through no proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from roadbed.gateway.endpoints import REMOTE_SUFFIXES, Endpoint, sink_of
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.profiles import PLAIN_PROFILE, PROFILES
from roadbed.gateway.route import Route
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest

EngineKind = Literal["ollama", "llama.cpp", "vllm", "lmstudio", "openai-compatible"]
USUAL_PORTS = (11434, 8080, 8000, 1234)
PROBE_S = 0.3
PROBE_BYTES_MAX = 1024 * 1024
WATCH_INTERVAL_S = 30.0
MODELS_MAX = 200
LOCAL_ROUTE = "local"
FIRST_EVENT_S = 120.0
"""A local engine may have to load its model first, and reads a long prompt slowly."""

STALL_S = 60.0
_EMBEDDERS = ("embed", "bge-", "minilm", "nomic", "rerank")


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """A local engine that answered: its kind, its address without ``/v1``, and the chat models that run in this
    house.
    """

    kind: EngineKind
    root: str
    models: tuple[str, ...]

    @property
    def url(self) -> str:
        """The base address of its OpenAI dialect."""
        return f"{self.root}/v1"


async def find_local_engines(
    client: UpstreamClient, ports: Iterable[int] = USUAL_PORTS, *, probe_s: float = PROBE_S
) -> list[FoundEngine]:
    """The engines that answer on loopback, in the order of ``ports``."""
    found = await asyncio.gather(*(_probe(client, f"http://127.0.0.1:{port}", probe_s) for port in ports))
    return [engine for engine in found if engine is not None]


async def _probe(client: UpstreamClient, root: str, probe_s: float) -> FoundEngine | None:
    try:
        async with asyncio.timeout(probe_s):
            return await _identify(client, root, probe_s)
    except TimeoutError:
        return None


async def _identify(client: UpstreamClient, root: str, probe_s: float) -> FoundEngine | None:
    tags, listed, props, studio = await asyncio.gather(
        _get(client, f"{root}/api/tags", probe_s),
        _get(client, f"{root}/v1/models", probe_s),
        _get(client, f"{root}/props", probe_s),
        _get(client, f"{root}/api/v0/models", probe_s),
    )
    if isinstance(tags, dict) and isinstance(tags.get("models"), list) and _is_ollama(tags["models"]):
        return _ollama(root, tags["models"])
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        return None
    rows = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    models = _chat_models(entry["id"] for entry in rows)
    kind: EngineKind = "openai-compatible"
    has_props = isinstance(props, dict) and "default_generation_settings" in props
    if has_props or any(entry.get("owned_by") == "llamacpp" for entry in rows):
        kind = "llama.cpp"
    elif any(entry.get("owned_by") == "vllm" or "max_model_len" in entry for entry in rows):
        kind = "vllm"
    elif isinstance(studio, dict) and isinstance(studio.get("data"), list):
        kind, models = "lmstudio", _lmstudio_models(studio["data"])
    elif any(entry.get("owned_by") == "organization_owner" for entry in rows):
        kind = "lmstudio"
    # Something else on a usual port may list models and still pass requests on to a cloud: not taken for local.
    return None if kind == "openai-compatible" else FoundEngine(kind, root, models)


async def _get(client: UpstreamClient, url: str, probe_s: float) -> Any:
    """The JSON at an address; None for anything else."""
    request = UpstreamRequest(b"GET", parse_url(url), response_bytes_max=PROBE_BYTES_MAX)
    try:
        async with await client.request(request, connect_s=probe_s, head_s=probe_s, complete_s=probe_s) as response:
            body = await response.read(PROBE_BYTES_MAX)
            return msgspec.json.decode(body) if response.status == 200 else None
    except (UpstreamFailed, msgspec.DecodeError, RecursionError):
        return None


def _lmstudio_models(entries: list[Any]) -> tuple[str, ...]:
    """LM Studio's own list says which models embed."""
    chats = (entry for entry in entries if isinstance(entry, dict) and entry.get("type") != "embeddings")
    return _chat_models(entry["id"] for entry in chats if isinstance(entry.get("id"), str))


def _is_ollama(models: list[Any]) -> bool:
    return all(isinstance(model, dict) and isinstance(model.get("name"), str) for model in models)


def _ollama(root: str, models: list[dict[str, Any]]) -> FoundEngine:
    """Ollama's models by their tags, without those that have a remote model or host behind them."""
    return FoundEngine("ollama", root, _chat_models(model["name"] for model in models if not _is_remote(model)))


def _is_remote(model: dict[str, Any]) -> bool:
    name = model["name"]
    return bool(model.get("remote_model") or model.get("remote_host")) or name.endswith(REMOTE_SUFFIXES)


def _chat_models(names: Iterable[str]) -> tuple[str, ...]:
    chosen = [name for name in names if name and not any(word in name.lower() for word in _EMBEDDERS)]
    return tuple(dict.fromkeys(chosen))[:MODELS_MAX]


def engine_endpoint(engine: FoundEngine, model: str) -> Endpoint:
    """The endpoint of one model of a found engine: local, free, with the patience that local engines need."""
    name = f"{engine.kind}/{model}"
    return Endpoint(
        name=name,
        url=engine.url,
        model=model,
        is_local=True,
        sink=sink_of(name, True, []),
        profile=PROFILES.get(engine.kind, PLAIN_PROFILE),
        price=price_from_usd("local", 0.0, 0.0),
        first_event_s=FIRST_EVENT_S,
        stall_s=STALL_S,
    )


def route_from_engines(engines: Iterable[FoundEngine], *, name: str = LOCAL_ROUTE) -> Route | None:
    """The route of a workspace without models: the first model of each engine found; None when there is none."""
    ladder = tuple(engine_endpoint(engine, engine.models[0]) for engine in engines if engine.models)
    return Route(name, ladder, deadline_s=FIRST_EVENT_S) if ladder else None


class EngineWatch:
    """Looks again from time to time, and calls ``changed`` with what was found when it differs from the last time."""

    def __init__(
        self,
        client: UpstreamClient,
        changed: Callable[[list[FoundEngine]], Awaitable[None]],
        *,
        ports: Iterable[int] = USUAL_PORTS,
        interval_s: float = WATCH_INTERVAL_S,
        probe_s: float = PROBE_S,
    ) -> None:
        self.engines: list[FoundEngine] = []
        self._client = client
        self._changed = changed
        self._ports = tuple(ports)
        self._interval_s = interval_s
        self._probe_s = probe_s

    async def look(self) -> list[FoundEngine]:
        """Look once."""
        found = await find_local_engines(self._client, self._ports, probe_s=self._probe_s)
        if found != self.engines:
            self.engines = found
            await self._changed(found)
        return found

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)
