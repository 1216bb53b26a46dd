"""The manifest section ``identity.certificates``: which service a client's certificate is."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.errors import ConfigError

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
Role = Literal["member", "auditor", "admin"]
CertificateName = Annotated[str, Meta(pattern=NAME_PATTERN)]


class CertificateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service that is known by its certificate: by one name in it, compared as a whole."""

    team: Annotated[str, Meta(min_length=1, description="its team")]
    uri: Annotated[str, Meta(max_length=2_000, description="URI of its certificate, such as a SPIFFE id")] = ""
    dns: Annotated[str, Meta(max_length=253, description="DNS name of its certificate")] = ""
    common_name: Annotated[str, Meta(max_length=64, description="common name of its certificate's subject")] = ""
    roles: Annotated[tuple[Role, ...], Meta(min_length=1, max_length=3, description="its roles")] = ("member",)
    apps: Annotated[list[str] | None, Meta(description="apps and routes it may call; all when left out")] = None
    scopes: Annotated[list[str] | None, Meta(description="uses it is made for; all but `scim`")] = None
    budget: Annotated[str, Meta(description="a spending cap such as `5 USD/day`")] = ""

    @property
    def named_by(self) -> tuple[str, str]:
        """Which kind of name, and the name. Raises `ConfigError` unless there is exactly one."""
        given = [(kind, getattr(self, kind)) for kind in ("uri", "dns", "common_name") if getattr(self, kind)]
        if len(given) != 1:
            raise ConfigError("identity: a certificate is known by one of `uri`, `dns` and `common_name`")
        kind, name = given[0]
        return kind, name.lower() if kind == "dns" else name
