"""Local engines are told by what they answer; models that run elsewhere are not local."""

from __future__ import annotations

from typing import Any

import pytest

from roadbed.gateway.local_engines import EngineWatch, FoundEngine, find_local_engines, route_from_engines
from roadbed.testing.flaky_endpoint import FlakyEndpoint, refused_port
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.wire.client import UpstreamClient

PATIENT_S = 60.0
OLLAMA = {
    "/api/tags": {
        "models": [
            {"name": "nomic-embed-text:latest"},
            {"name": "qwen3:8b", "size": 5},
            {"name": "gpt-oss:120b-cloud", "remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com"},
            {"name": "mine:latest", "remote_host": "https://elsewhere.example"},
        ]
    }
}
LLAMA_CPP = {
    "/props": {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 1},
    "/v1/models": {"object": "list", "data": [{"id": "tiny.gguf", "owned_by": "llamacpp"}]},
}
VLLM = {"/v1/models": {"object": "list", "data": [{"id": "qwen", "owned_by": "vllm", "max_model_len": 8192}]}}
LM_STUDIO = {
    "/v1/models": {"data": [{"id": "llama-3"}, {"id": "text-embedding-x"}]},
    "/api/v0/models": {"data": [{"id": "text-x", "type": "embeddings"}, {"id": "llama-3", "type": "llm"}]},
}


@pytest.mark.parametrize(
    ("answers", "kind", "models"),
    [
        (OLLAMA, "ollama", ("qwen3:8b",)),
        (LLAMA_CPP, "llama.cpp", ("tiny.gguf",)),
        (VLLM, "vllm", ("qwen",)),
        (LM_STUDIO, "lmstudio", ("llama-3",)),
    ],
    ids=["ollama", "llama.cpp", "vllm", "lmstudio"],
)
async def test_an_engine_is_known_by_its_answers(
    client: UpstreamClient, answers: dict[str, Any], kind: str, models: tuple[str, ...]
) -> None:
    async with ScriptedModel(gets=answers) as engine:
        port = int(engine.root.rpartition(":")[2])
        found = await find_local_engines(client, [refused_port(), port], probe_s=PATIENT_S)
        assert found == [FoundEngine(kind, engine.root, models)]  # type: ignore[arg-type]
        assert all(request.method == "GET" for request in engine.requests), "a probe runs no model"


@pytest.mark.parametrize("answers", [{"/v1/models": {"data": [{"id": "m"}]}}, {"/v1/models": [1]}, {"/api/tags": "x"}])
async def test_what_cannot_be_told_is_not_taken_for_local(client: UpstreamClient, answers: dict[str, Any]) -> None:
    async with ScriptedModel(gets=answers) as engine:
        assert await find_local_engines(client, [int(engine.root.rpartition(":")[2])], probe_s=PATIENT_S) == []


async def test_a_port_that_swallows_everything_costs_one_probe_time(client: UpstreamClient) -> None:
    async with FlakyEndpoint(fault="black_hole") as hole:
        assert await find_local_engines(client, [hole.port], probe_s=0.05) == []


async def test_the_route_of_a_workspace_without_models() -> None:
    engines = [
        FoundEngine("ollama", "http://127.0.0.1:11434", ()),
        FoundEngine("vllm", "http://127.0.0.1:8000", ("qwen", "other")),
    ]
    route = route_from_engines(engines)
    assert route is not None
    assert [(e.name, e.is_local, e.url) for e in route.ladder] == [("vllm/qwen", True, "http://127.0.0.1:8000/v1")]
    assert route.ladder[0].price is not None
    assert route.ladder[0].price.is_free
    assert route_from_engines(engines[:1]) is None


async def test_the_watch_tells_of_changes_alone(client: UpstreamClient) -> None:
    told: list[list[FoundEngine]] = []

    async def changed(found: list[FoundEngine]) -> None:
        told.append(found)

    async with ScriptedModel(gets=VLLM) as engine:
        watch = EngineWatch(client, changed, ports=[int(engine.root.rpartition(":")[2])], probe_s=PATIENT_S)
        await watch.look()
        await watch.look()
        assert len(told) == 1
    await watch.look()
    assert told[1:] == [[]]
