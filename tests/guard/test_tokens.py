"""Tokens of a real issuer on loopback: which are taken, every reason why one is refused, and how its keys are kept."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from roadbed.guard.token_manifest import IdentityConfig, IssuerConfig
from roadbed.guard.tokens import IssuerAway, ScopeMissing, TokenRefused, Tokens, fetcher
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.wire.client import UpstreamClient

AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
URL = "https://AI.example.com/"
RESOURCE = "https://ai.example.com/mcp"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "rsa"})
NEXT = ECKey.generate_key("P-256", {"kid": "next"})
EDWARDS = OKPKey.generate_key("Ed25519", {"kid": "ed"})


class FixedClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.s = 0.0

    def wall(self) -> datetime:
        return AT + timedelta(seconds=self.s)

    def monotonic_s(self) -> float:
        return 1000.0 + self.s


class Issuer:
    """An authorization server's metadata and keys over HTTP, with what was asked."""

    def __init__(self) -> None:
        self.keys: list[Any] = [RSA, EDWARDS]
        self.asked: list[str] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                body = outer.answer(self.path)
                self.send_response(outer.status if body else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.named = self.url
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, path: str) -> bytes:
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.named, "jwks_uri": f"{self.url}/keys"}).encode()
        if path == "/keys":
            public = KeySet(self.keys).as_dict(private=False)
            # A symmetric key in the set must not make HMAC with a known value work.
            return json.dumps(
                {
                    "keys": [
                        *public["keys"],
                        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "shared"},
                    ]
                }
            ).encode()
        return b""

    def token(self, key: Any = RSA, alg: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        now = int(AT.timestamp())
        given = {"iss": self.url, "aud": RESOURCE, "sub": "anna", "exp": now + 300, "iat": now, **claims}
        head = {"alg": alg, "typ": "at+jwt", "kid": key.kid, **(header or {})}
        kept = {name: value for name, value in given.items() if value is not None}
        return jwt.encode({n: v for n, v in head.items() if v is not None}, kept, key, algorithms=[alg]).encode()


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def tokens(issuer: Issuer, clock: FixedClock) -> AsyncIterator[Tokens]:
    client = UpstreamClient()
    made = Tokens(fetcher(client), clock=clock)
    config = IssuerConfig(
        issuer=issuer.url, team="guests", team_claim="team", role_claim="groups", roles={"ops": "admin"}
    )
    made.take(IdentityConfig(address=URL, issuers=[config]))
    await made.prepare(issuer.token())
    yield made
    await client.close()


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by the issuer here, when it signs
async def test_a_caller_gets_team_and_roles_by_claims(issuer: Issuer, tokens: Tokens) -> None:
    guest = tokens.authenticate(issuer.token())
    boss = tokens.authenticate(issuer.token(EDWARDS, "EdDSA", team="staff", groups=["ops", "x"], sub="boss"))
    assert (guest.team, guest.roles, guest.name) == ("guests", frozenset({"member"}), "anna")
    assert (boss.team, boss.is_admin) == ("staff", True)
    assert guest.id != boss.id
    assert tokens.authenticate(issuer.token()) == guest


TIMES = int(AT.timestamp())


@pytest.mark.parametrize(
    ("key", "alg", "header", "claims"),
    [
        pytest.param(RSA, "RS256", {}, {"aud": "https://ai.example.com"}, id="audience of another address"),
        pytest.param(RSA, "RS256", {}, {"aud": [RESOURCE + "/", "x"]}, id="audience almost ours"),
        pytest.param(RSA, "RS256", {}, {"aud": None}, id="no audience"),
        pytest.param(RSA, "RS256", {}, {"iss": "https://evil.example"}, id="issuer unknown"),
        pytest.param(RSA, "RS256", {}, {"iss": None}, id="no issuer"),
        pytest.param(RSA, "RS256", {}, {"exp": TIMES - 61}, id="expired"),
        pytest.param(RSA, "RS256", {}, {"exp": None}, id="no expiry"),
        pytest.param(RSA, "RS256", {}, {"exp": "never"}, id="expiry no number"),
        pytest.param(RSA, "RS256", {}, {"nbf": TIMES + 61}, id="not yet"),
        pytest.param(RSA, "RS256", {}, {"iat": TIMES + 61}, id="made in the future"),
        pytest.param(RSA, "RS256", {}, {"sub": None}, id="nobody"),
        pytest.param(RSA, "RS256", {}, {"team": "a b"}, id="no team name"),
        pytest.param(RSA, "RS256", {}, {"team": 7}, id="team no string"),
        pytest.param(OTHER, "RS256", {}, {}, id="signed by another key of that name"),
        pytest.param(RSA, "RS512", {}, {}, id="algorithm not listed"),
        pytest.param(RSA, "RS256", {"typ": "logout+jwt"}, {}, id="another type of token"),
        pytest.param(RSA, "RS256", {"kid": "unknown"}, {}, id="key unknown"),
        pytest.param(RSA, "RS256", {"kid": None}, {}, id="no key named, several there"),
        pytest.param(RSA, "RS256", {"kid": "ed"}, {}, id="a key of another kind"),
        pytest.param(OctKey.import_key(b"secret" * 6, {"kid": "shared"}), "HS256", {}, {}, id="symmetric key"),
    ],
)
async def test_refused(
    issuer: Issuer, tokens: Tokens, key: Any, alg: str, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    assert tokens.authenticate(issuer.token()).team == "guests"
    with pytest.raises(TokenRefused):
        tokens.authenticate(issuer.token(key, alg, header, **claims))


async def test_a_public_key_is_no_secret_of_hmac(issuer: Issuer, tokens: Tokens) -> None:
    claims = issuer.token().split(b".")[1]
    for secret in (RSA.as_pem(private=False), json.dumps(RSA.as_dict(private=False)).encode()):
        signed = encoded(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": "rsa"}).encode()) + b"." + claims
        forged = signed + b"." + encoded(hmac.digest(secret, signed, "sha256"))
        with pytest.raises(TokenRefused):
            tokens.authenticate(forged)


@pytest.mark.parametrize("alg", ["none", "None", "NONE"])
async def test_unsigned_tokens_are_refused(issuer: Issuer, tokens: Tokens, alg: str) -> None:
    _, claims, signature = issuer.token().split(b".")
    unsigned = encoded(json.dumps({"alg": alg, "kid": "rsa"}).encode())
    for end in (b"", signature):
        with pytest.raises(TokenRefused):
            tokens.authenticate(b".".join((unsigned, claims, end)))


@pytest.mark.parametrize("broken", [b"eyJ.eyJ.x", b"eyJ" + b"A" * 20_000 + b"..", b"eyJ9..", b"eyJhIjpbXX0.W10.x"])
async def test_what_is_no_token_is_refused(tokens: Tokens, broken: bytes) -> None:
    assert tokens.is_token(broken)
    with pytest.raises(TokenRefused):
        tokens.authenticate(broken)


async def test_a_changed_byte_is_refused(issuer: Issuer, tokens: Tokens) -> None:
    head, _, signature = issuer.token().split(b".")
    other = issuer.token(team="staff").split(b".")[1]
    with pytest.raises(TokenRefused):
        tokens.authenticate(b".".join((head, other, signature)))


async def test_clocks_may_differ_by_a_minute(issuer: Issuer, tokens: Tokens, clock: FixedClock) -> None:
    token = issuer.token(exp=TIMES + 10, nbf=TIMES + 59)
    assert tokens.authenticate(token).team == "guests"
    clock.s = 69
    assert tokens.authenticate(token).team == "guests"
    clock.s = 71
    with pytest.raises(TokenRefused):
        tokens.authenticate(token)


async def test_scopes_are_named_all_at_once(issuer: Issuer, tokens: Tokens) -> None:
    config = IssuerConfig(issuer=issuer.url, team="guests", scopes=["tools:read", "docs:read"])
    tokens.take(IdentityConfig(address=URL, issuers=[config]))
    await tokens.prepare(issuer.token())
    with pytest.raises(ScopeMissing) as refused:
        tokens.authenticate(issuer.token(scope="tools:read"))
    challenge = tokens.challenge(refused.value).decode()
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="tools:read docs:read"' in challenge
    assert tokens.authenticate(issuer.token(scope="docs:read tools:read x")).team == "guests"
    assert tokens.authenticate(issuer.token(scp=["docs:read", "tools:read"], sub="b")).team == "guests"


async def test_a_new_key_is_asked_for_at_most_once_a_minute(issuer: Issuer, tokens: Tokens, clock: FixedClock) -> None:
    issuer.keys.append(NEXT)
    token = issuer.token(NEXT, "ES256")
    for _ in range(3):
        await tokens.prepare(token)
    assert issuer.asked.count("/keys") == 1
    clock.s = 61
    assert tokens.needs_keys(token)
    await tokens.prepare(token)
    assert issuer.asked.count("/keys") == 2
    assert not tokens.needs_keys(token)
    assert tokens.authenticate(token).team == "guests"


async def test_the_old_keys_go_on_while_the_issuer_is_away(issuer: Issuer, tokens: Tokens, clock: FixedClock) -> None:
    issuer.status, clock.s = 500, 61
    await tokens.prepare(issuer.token(NEXT, "ES256"))
    assert issuer.asked.count("/.well-known/openid-configuration") == 2
    assert tokens.authenticate(issuer.token()).team == "guests"


async def test_a_key_that_was_withdrawn_ends_its_tokens(issuer: Issuer, tokens: Tokens, clock: FixedClock) -> None:
    token = issuer.token()
    tokens.authenticate(token)
    issuer.keys, clock.s = [NEXT, EDWARDS], 61
    await tokens.prepare(issuer.token(NEXT, "ES256"))
    with pytest.raises(TokenRefused):
        tokens.authenticate(token)


async def test_metadata_of_another_issuer_is_not_believed(issuer: Issuer, clock: FixedClock) -> None:
    issuer.named = "https://evil.example"
    client = UpstreamClient()
    tokens = Tokens(fetcher(client), clock=clock)
    tokens.take(IdentityConfig(address=URL, issuers=[IssuerConfig(issuer=issuer.url, team="guests")]))
    await tokens.prepare(issuer.token())
    with pytest.raises(IssuerAway) as away:
        tokens.authenticate(issuer.token())
    assert away.value.http_status == 503
    assert "/keys" not in issuer.asked
    await client.close()


async def test_what_the_deployment_says_of_itself(issuer: Issuer, tokens: Tokens) -> None:
    assert tokens.metadata() == {
        "resource": RESOURCE,
        "authorization_servers": [issuer.url],
        "bearer_methods_supported": ["header"],
    }
    challenge = tokens.challenge(RoadbedError("no key")).decode()
    where = "https://ai.example.com/.well-known/oauth-protected-resource/mcp"
    assert challenge == f'Bearer resource_metadata="{where}"'
    tokens.take(IdentityConfig(address=URL))
    assert tokens.metadata() is None
    assert not tokens.is_token(issuer.token())


async def test_an_issuer_needs_a_team(tokens: Tokens) -> None:
    with pytest.raises(ConfigError):
        tokens.take(IdentityConfig(issuers=[IssuerConfig(issuer="https://id.example.com")]))
