"""Admission and settings: pure decisions about who comes in and how a deployment may listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roadbed.kernel.errors import ConfigError, InvalidRequest
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal
from roadbed.kernel.secrets import Secret
from roadbed.server.admission import (
    AppNotAllowed,
    RoleMissing,
    TwoKeys,
    admit,
    presented_key,
    require_app,
    require_role,
)
from roadbed.server.settings import Settings, check_settings, default_state, is_loopback

CALLER = Principal("key", "staff")


class OneKey:
    """An identity that knows everybody as the same caller, and remembers what was shown to it."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def authenticate(self, presented: bytes) -> Principal:
        self.shown.append(presented)
        return CALLER


@pytest.mark.parametrize(
    ("authorization", "api_key", "key"),
    [
        (b"Bearer rbk_x", None, b"rbk_x"),
        (b"bearer   rbk_x ", None, b"rbk_x"),
        (None, b"rbk_y", b"rbk_y"),
        (b"Bearer rbk_x", b"rbk_x", b"rbk_x"),
        (b"Basic abc", b"rbk_y", b""),
        (b"rbk_x", None, b""),
        (None, None, b""),
    ],
)
def test_where_a_key_is_looked_for(authorization: bytes | None, api_key: bytes | None, key: bytes) -> None:
    assert presented_key(authorization, api_key) == key


def test_two_different_keys_are_refused() -> None:
    with pytest.raises(TwoKeys) as refused:
        presented_key(b"Bearer rbk_x", b"rbk_y")
    assert refused.value.http_status == 400


def test_a_deadline_is_bounded_and_checked() -> None:
    identity: Any = OneKey()
    assert admit(identity, b"Bearer k", None, None).deadline_s is None
    assert admit(identity, b"Bearer k", None, b"1500").deadline_s == 1.5
    for wrong in (b"", b"-1", b"1.5", b"soon", b"49"):
        with pytest.raises(InvalidRequest) as refused:
            admit(identity, b"Bearer k", None, wrong)
        assert refused.value.param == "x-roadbed-deadline-ms"
    assert identity.shown == [b"k"] * 7, "nobody is told about deadlines before the key was looked at"
    assert admit(identity, b"k", None, b"999999999999").deadline(5.0).remaining_s() < 100_000


def test_apps_of_the_key_and_of_the_team_both_bound_it() -> None:
    admin = Principal("key", "admin", roles=frozenset({ADMIN}))
    narrow = Principal("key", "staff", apps=frozenset({"search"}))
    require_app(CALLER, "helpdesk", None)
    require_app(CALLER, "helpdesk", frozenset({"helpdesk"}))
    require_app(admin, "helpdesk", frozenset())
    for principal, team_apps in ((CALLER, frozenset({"search"})), (narrow, None), (narrow, frozenset({"helpdesk"}))):
        with pytest.raises(AppNotAllowed):
            require_app(principal, "helpdesk", team_apps)


@pytest.mark.parametrize(
    ("roles", "role", "is_allowed"),
    [
        ({MEMBER}, MEMBER, True),
        ({MEMBER}, AUDITOR, False),
        ({MEMBER}, ADMIN, False),
        ({MEMBER, AUDITOR}, AUDITOR, True),
        ({AUDITOR}, ADMIN, False),
        ({ADMIN}, AUDITOR, True),
        ({ADMIN}, ADMIN, True),
    ],
)
def test_roles(roles: set[str], role: str, is_allowed: bool) -> None:
    principal = Principal("key", "staff", roles=frozenset(roles))
    if is_allowed:
        require_role(principal, role)
    else:
        with pytest.raises(RoleMissing, match=role):
            require_role(principal, role)


def settings(**given: Any) -> Settings:
    return Settings(**{"workspace": Path("w"), "state": Path("s"), **given})


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.5"},
        {"host": "example.org"},
        {"port": -1},
        {"port": 65536},
        {"tls_cert": Path("c")},
        {"tls_key": Path("k")},
        {"admin_key": Secret("short")},
        {"admin_key": Secret("with a blank in it, however long it is")},
        {"admin_key": Secret("ümlaut-ümlaut-ümlaut-ümlaut-ümlaut")},
    ],
)
def test_unsafe_or_impossible_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        check_settings(settings(**given))
    key = given.get("admin_key")
    assert key is None or key.reveal() not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"host": "localhost"},
        {"host": "::1"},
        {"host": "127.0.0.2", "port": 0},
        {"host": "0.0.0.0", "behind_proxy": True},
        {"host": "0.0.0.0", "tls_cert": Path("c"), "tls_key": Path("k")},
        {"admin_key": Secret("a" * 24)},
    ],
)
def test_what_is_safe_is_taken(given: dict[str, Any]) -> None:
    check_settings(settings(**given))


def test_each_workspace_has_a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, second = default_state(tmp_path / "a"), default_state(tmp_path / "b")
    assert first != second
    assert first == default_state(tmp_path / "x" / ".." / "a")
    assert first.parent == tmp_path / "roadbed"
    assert not is_loopback("localhost.example.org")
