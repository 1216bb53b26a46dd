"""Endpoints and routes from the manifest: what is local, what it may be sent, keys, prices, ladders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

from roadbed.gateway.endpoints import Endpoint, endpoint_from_config, is_local_address
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.manifest import EndpointConfig, ModelConfig
from roadbed.gateway.prices import parse_price_table, price_from_usd, shipped_prices
from roadbed.gateway.providers import PROVIDERS, describe_environment
from roadbed.gateway.route import Route, build_routes, may_take, plan
from roadbed.gateway.types import Usage
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import PERSONAL, PUBLIC, Label, Level
from roadbed.wire.pool import PoolLimits

from .conftest import endpoint

PRICES = shipped_prices()


def built(base: Path | None = None, **values: object) -> Endpoint:
    return endpoint_from_config("a", EndpointConfig(**values), prices=PRICES, base=base)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://10.0.0.5/v1", True),
        ("http://192.168.1.4", True),
        ("http://172.20.0.1", True),
        ("http://gpu-box:8000", True),
        ("http://lab.internal", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8/v1", False),
        ("https://172.40.0.1", False),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1.example.com", False),
        ("https://10.0.0.5@evil.example", False),
        ("nonsense", False),
    ],
)
def test_local_is_what_has_an_address_of_this_house(url: str, is_local: bool) -> None:
    assert is_local_address(url) is is_local


def test_the_manifest_may_say_otherwise() -> None:
    assert built(type="openai", model="m", url="https://llm.acme.com/v1", local=True).is_local
    assert not built(type="openai", model="m", url="http://10.0.0.5/v1", local=False).is_local


def test_a_model_that_a_local_server_passes_on_is_not_local() -> None:
    assert built(type="ollama", model="gpt-oss:20b").is_local
    assert not built(type="ollama", model="gpt-oss:120b-cloud").is_local
    assert not built(type="openai", model="kimi:cloud", url="http://127.0.0.1:11434/v1").is_local


def test_what_an_endpoint_may_be_sent() -> None:
    own = built(type="openai", model="m", url="http://127.0.0.1:1/v1")
    cloud = built(type="openai", model="m", url="https://x.example/v1")
    cleared = built(type="openai", model="m", url="https://x.example/v1", labels=["confidential", "eu"])
    european = Label(Level.CONFIDENTIAL, regions=frozenset({"eu"}))
    for label, expected in (
        (PUBLIC, (True, True, True)),
        (Label(Level.INTERNAL), (True, True, True)),
        (Label(Level.CONFIDENTIAL), (True, False, True)),
        (Label(Level.RESTRICTED), (True, False, False)),
        (Label(categories=frozenset({PERSONAL})), (True, True, True)),
        (european, (False, False, True)),
    ):
        assert tuple(may_take(item, label) for item in (own, cloud, cleared)) == expected, label.words()


def test_a_missing_key_is_a_fault_of_one_endpoint_and_not_of_the_manifest(tmp_path: Path) -> None:
    assert "ROADBED_NO_SUCH_KEY" in built(type="openai", model="m", url="http://x", key="env:ROADBED_NO_SUCH_KEY").fault
    assert "OPENAI_API_KEY" in built(type="openai", model="gpt-5").fault
    (tmp_path / "key").write_text("sk\r\nx-injected: 1")
    assert "characters" in built(base=tmp_path, type="openai", model="m", url="http://x", key="file:key").fault
    (tmp_path / "key").write_text("sk-1\n")
    found = built(base=tmp_path, type="openai", model="gpt-5", key="file:key")
    assert found.key is not None
    assert (found.key.reveal(), found.fault) == ("sk-1", "")
    assert found.profile.limit_field == "max_completion_tokens"
    assert "sk-1" not in repr(found)


def test_of_several_keys_those_that_can_be_read_are_used(tmp_path: Path) -> None:
    for name, value in (("one", "sk-1"), ("two", "sk-2"), ("same", "sk-1")):
        (tmp_path / name).write_text(value)
    values: dict[str, Any] = {"base": tmp_path, "type": "openai", "model": "m", "url": "http://x"}
    found = built(key=["file:one", "file:gone", "file:two", "file:same"], **values)
    assert ([key.reveal() for key in found.keys], found.fault) == (["sk-1", "sk-2"], "")
    assert found.key is found.keys[0]
    alone = built(key=["file:one", "file:gone"], **values)
    assert (alone.key is not None, alone.keys, alone.fault) == (True, (), "")
    assert "gone" in built(key=["file:gone"], **values).fault


def test_prices_by_table_by_manifest_and_none() -> None:
    assert built(type="openai", model="gpt-5-mini").price == PRICES.find("openai", "gpt-5-mini")
    own = built(type="openai", model="m", url="http://x.example", price_input=0.5, price_output=2).price
    assert own == price_from_usd("endpoints.a", 0.5, 2)
    assert built(type="openai", model="m", url="http://x.example").price is None
    local = built(type="openai", model="m", url="http://127.0.0.1:1").price
    assert local is not None
    assert local.is_free


@pytest.mark.parametrize("url", ["ftp://x", "x.example/v1", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        built(type="openai", model="m", url=url)


def test_costs_are_exact_integers_and_classes_are_disjoint() -> None:
    price = PRICES.find("anthropic", "claude-sonnet-4-5")
    assert price is not None
    usage = Usage(1_000, 2_000, 300, 40, 500, 60)
    expected = 1_000 * 3_000_000 + 2_000 * 300_000 + 300 * 3_750_000 + 40 * 6_000_000 + 560 * 15_000_000
    assert price.cost_picousd(usage) == expected
    assert price_from_usd("x", 0.1, 0.2).input_uncached == 100_000, "no float dust"


def test_dated_models_find_their_family() -> None:
    assert PRICES.find("openai", "gpt-5-2025-08-07") == PRICES.find("openai", "gpt-5")
    assert PRICES.find("anthropic", "claude-haiku-4-5-20251001") == PRICES.find("anthropic", "claude-haiku-4-5")
    assert PRICES.find("openai", "gpt-5-pro") is None
    assert PRICES.find("nobody", "gpt-5") is None
    with pytest.raises(ValueError):
        parse_price_table(b"{}")


def test_keys_in_the_environment_are_named_and_never_shown() -> None:
    found = describe_environment({"OPENAI_API_KEY": "sk-1", "PATH": "/bin", "GROQ_API_KEY": ""})
    assert [key.provider for key in found] == ["openai"]
    assert "sk-1" not in repr(found)
    assert "roadbed models add openai" in found[0].hint


def test_a_ladder_names_endpoints_and_providers() -> None:
    endpoints = {"lab": EndpointConfig("openai", "qwen", url="http://10.0.0.5/v1")}
    routes = build_routes(
        endpoints, {"smart": ModelConfig(["mistral/x", "lab"], deadline="9s", labels=["internal"])}, prices=PRICES
    )
    route = routes["smart"]
    assert [(item.name, item.model, item.is_local) for item in route.ladder] == [
        ("mistral/x", "x", False),
        ("lab", "qwen", True),
    ]
    assert (route.deadline_s, route.label.level) == (9.0, Level.INTERNAL)
    assert route.ladder[0].url == PROVIDERS["mistral"].url
    for entry, hint in (("lba", "lab"), ("nobody/x", "openai")):
        with pytest.raises(ConfigError) as raised:
            build_routes(endpoints, {"smart": ModelConfig([entry])}, prices=PRICES)
        assert hint in raised.value.hint


def test_rungs() -> None:
    cloud, own, other = (endpoint(name, "http://x", is_local=name != "cloud") for name in ("cloud", "own", "other"))
    assert [Route("r", (cloud, own)).rung(n) for n in (0, 1)] == ["full", "local"]
    assert [Route("r", (own, other, cloud)).rung(n) for n in (0, 1, 2)] == ["full", "fallback", "fallback"]


def test_a_plan_keeps_the_order_and_names_what_it_leaves_out() -> None:
    route = Route(
        "r",
        (
            endpoint("no-key", "http://x", fault="no key"),
            endpoint("cloud", "http://x", is_local=False),
            endpoint("tired", "http://x"),
            endpoint("own", "http://x"),
        ),
    )
    chosen = plan(route, Label(Level.CONFIDENTIAL), lambda item: "resting" if item.name == "tired" else "")
    assert [(item.endpoint.name, item.position) for item in chosen.candidates] == [("own", 3)]
    assert chosen.skipped == ("no-key: no key", "cloud: not cleared for confidential", "tired: resting")
    assert plan(route, PUBLIC, lambda item: "resting").candidates == ()
    with pytest.raises(NoCandidate, match="cloud: not cleared"):
        plan(Route("r", route.ladder[:2]), Label(Level.CONFIDENTIAL), lambda item: "")


def test_a_pool_holds_as_many_connections_as_an_endpoint_may_be_given() -> None:
    bounds = [note.le for note in get_type_hints(EndpointConfig, include_extras=True)["max_connections"].__metadata__]
    assert PoolLimits().connections_max >= max(bounds)
