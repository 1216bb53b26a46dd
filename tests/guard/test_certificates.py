"""Whose a certificate is: whole names alone, one service each, and never after it has run out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.certificate_manifest import CertificateConfig
from roadbed.guard.certificates import CertificateAmbiguous, Certificates, CertificateUnknown
from roadbed.kernel.errors import ConfigError
from roadbed.wire.peer_certificate import PeerCertificate, is_local, read_certificate

NOW_S = 1_000.0
TEXT = st.text(max_size=30)


def known(**services: dict[str, Any]) -> Certificates:
    made = Certificates()
    made.take({name: CertificateConfig(team="t", **config) for name, config in services.items()})
    return made


def shown(**names: tuple[str, ...]) -> PeerCertificate:
    return PeerCertificate(expires_at=NOW_S + 1, **names)


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4), TEXT.filter(bool))
def test_only_the_whole_name_of_the_right_kind_counts(
    uris: list[str], names: list[str], common: list[str], wanted: str
) -> None:
    found = known(one={"uri": wanted}).of(
        shown(uris=tuple(uris), dns_names=tuple(names), common_names=tuple(common)), NOW_S
    )
    assert (found is not None) == (wanted in uris)


def test_two_services_and_the_end() -> None:
    services = known(one={"uri": "spiffe://a/b"}, two={"dns": "B.Example"})
    one = services.of(shown(uris=("spiffe://a/b",)), NOW_S)
    assert one is not None
    assert (one.id, one.team, one.roles) == ("cert-one", "t", frozenset({"member"}))
    assert services.of(shown(dns_names=("b.example",)), NOW_S) is not None
    with pytest.raises(CertificateAmbiguous):
        services.of(shown(uris=("spiffe://a/b",), dns_names=("b.example",)), NOW_S)
    with pytest.raises(CertificateUnknown):
        services.of(shown(uris=("spiffe://a/b",)), NOW_S + 1)


@pytest.mark.parametrize(
    "config",
    [
        {"one": {}},
        {"one": {"uri": "a", "dns": "b"}},
        {"one": {"dns": "A"}, "two": {"dns": "a"}},
        {"one": {"uri": "a", "scopes": ["everything"]}},
        {"one": {"uri": "a", "scopes": []}},
        {"one": {"uri": "a", "budget": "much"}},
    ],
)
def test_a_section_that_cannot_be_keeps_the_old_one(config: dict[str, Any]) -> None:
    services = known(old={"uri": "old"})
    with pytest.raises(ConfigError):
        services.take({name: CertificateConfig(team="t", **values) for name, values in config.items()})
    assert services.of(shown(uris=("old",)), NOW_S) is not None


def test_reading_what_tls_tells() -> None:
    told = {
        "subject": ((("organizationName", "x"),), (("commonName", "a"),), (("commonName", "b"),)),
        "subjectAltName": (("DNS", "d"), ("URI", "u"), ("IP Address", "::1"), ("email", "a@b")),
        "notAfter": "Jan  5 09:34:43 2018 GMT",
    }
    assert read_certificate(told) == PeerCertificate(("u",), ("d",), ("a", "b"), 1_515_144_883.0)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [(("127.0.0.9", 1), True), (("::1", 1), True), (("10.0.0.1", 1), False), (("unix", 1), False), (None, False)],
)
def test_this_machine(peer: tuple[str, int] | None, expected: bool) -> None:
    assert is_local(peer) is expected
