"""The manifest section ``identity``: whose tokens are taken beside keys, and the address that they are meant for."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.guard.certificate_manifest import CertificateConfig, CertificateName, Role
from roadbed.kernel.config import DURATION_PATTERN

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
Scope = Annotated[str, Meta(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]
SECURE_OR_LOCAL = r"^(https://|http://(localhost|127\.0\.0\.1|\[::1\])([:/]|$))"


class IssuerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An authorization server whose tokens are taken."""

    issuer: Annotated[
        str, Meta(pattern=SECURE_OR_LOCAL, description="its exact `iss`; https, but for this machine itself")
    ]
    audience: Annotated[
        str, Meta(description="`aud` that its tokens must hold; this deployment's `/mcp` address when left out")
    ] = ""
    jwks_uri: Annotated[str, Meta(description="where its keys are; asked of its metadata document when left out")] = ""
    team: Annotated[str, Meta(description="team of its callers, or of those without a team claim")] = ""
    team_claim: Annotated[str, Meta(description="claim that names a caller's team")] = ""
    role_claim: Annotated[str, Meta(description="claim that lists a caller's roles or groups at the issuer")] = ""
    roles: Annotated[
        dict[str, Role], Meta(description="roles here by value of `role_claim`; everyone is a member")
    ] = {}
    scopes: Annotated[list[Scope], Meta(max_length=20, description="scopes that a token must hold")] = []
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, description="signatures that are taken")] = (
        "RS256",
        "PS256",
        "ES256",
        "EdDSA",
        "Ed25519",
    )


class SignInConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The issuer that people sign in to the console through."""

    issuer: Annotated[
        str, Meta(pattern=SECURE_OR_LOCAL, description="its exact `iss`; https, but for this machine itself")
    ]
    client_id: Annotated[str, Meta(min_length=1, description="what this deployment is called there")]
    client_secret: Annotated[
        str, Meta(description="reference to the client's secret: env:NAME or file:PATH; none for a public client")
    ] = ""
    label: Annotated[str, Meta(max_length=60, description="what the sign-in page calls it")] = ""
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=20, description="scopes asked for")] = (
        "openid",
        "profile",
        "email",
    )
    team: Annotated[str, Meta(description="team of those whom no claim or group puts in one")] = ""
    team_claim: Annotated[str, Meta(description="claim that names a person's team")] = ""
    groups_claim: Annotated[str, Meta(description="claim that lists a person's groups")] = "groups"
    teams: Annotated[dict[str, str], Meta(description="teams by group, of claims or of the directory")] = {}
    roles: Annotated[
        dict[str, Role], Meta(description="roles by group, of claims or of the directory; everyone is a member")
    ] = {}
    link_claim: Annotated[str, Meta(description="claim that holds the directory's `externalId`: `oid` with Entra")] = (
        "sub"
    )
    provisioned_only: Annotated[bool, Meta(description="let only those in whom a directory (SCIM) provisioned")] = False


class IdentityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who else is known, beside the keys made here."""

    address: Annotated[str, Meta(description="public address of this deployment, such as `https://ai.example.com`")] = (
        ""
    )
    origins: Annotated[
        list[str], Meta(max_length=100, description="web origins whose pages may call `/mcp`; this machine always may")
    ] = []
    issuers: Annotated[list[IssuerConfig], Meta(max_length=20, description="authorization servers")] = []
    keys_expire: Annotated[
        str,
        Meta(pattern=rf"^never$|{DURATION_PATTERN}", description="how long a new key lives where nothing is said"),
    ] = "90d"
    sign_in: Annotated[SignInConfig | None, Meta(description="how people sign in to the console")] = None
    certificates: Annotated[
        dict[CertificateName, CertificateConfig], Meta(description="services known by their client certificates")
    ] = {}
