"""`Certificates`: services known by the certificate that their connection was opened with, beside keys and tokens.

Pure over the manifest's section; TLS has verified the certificate, this says whose it is. Names are compared as a
whole: no patterns, no parts (DNS names without regard to case). The invariant: a certificate that fits two services is
nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from roadbed.guard.certificate_manifest import CertificateConfig
from roadbed.guard.keys import SCOPES
from roadbed.kernel.errors import ConfigError, InvalidRequest, Unauthorized
from roadbed.kernel.limits import parse_budget
from roadbed.kernel.principal import Principal
from roadbed.wire.peer_certificate import PeerCertificate

CERTIFICATE_PREFIX: Final = "cert-"


class CertificateUnknown(Unauthorized):
    """The client's certificate is good, and names no service of this deployment; or it has run out meanwhile."""

    code = "auth.certificate_unknown"
    hint = "name it under `identity: certificates` in the manifest, or send a key"

    def __init__(self) -> None:
        super().__init__("this certificate is nobody's here")


class CertificateAmbiguous(Unauthorized):
    """The client's certificate has the names of two services."""

    code = "auth.certificate_ambiguous"
    hint = "give each service a certificate of its own, or name it by its URI"

    def __init__(self) -> None:
        super().__init__("this certificate names two services")


class CertificateDisagrees(InvalidRequest):
    """The request's key and its connection's certificate are of different teams."""

    code = "auth.certificate_disagrees"
    hint = "send a key of the certificate's own team, or none"

    def __init__(self) -> None:
        super().__init__("the key and the certificate are of different teams")


class Certificates:
    """The services of a deployment that have certificates."""

    def __init__(self) -> None:
        self._config: Mapping[str, CertificateConfig] = {}
        self._by_name: dict[tuple[str, str], Principal] = {}
        self._by_id: dict[str, Principal] = {}

    def take(self, config: Mapping[str, CertificateConfig]) -> bool:
        """Know these from now on; whether that changes anything. Raises `ConfigError`, and keeps what was known."""
        if config == self._config:
            return False
        by_name: dict[tuple[str, str], Principal] = {}
        for name, service in config.items():
            if service.named_by in by_name:
                raise ConfigError(f"identity: the certificate of {name} is another service's, too")
            by_name[service.named_by] = _principal(name, service)
        self._config, self._by_name = config, by_name
        self._by_id = {principal.id: principal for principal in by_name.values()}
        return True

    def principals(self) -> list[Principal]:
        """All of them."""
        return list(self._by_id.values())

    def of_id(self, principal_id: str) -> Principal | None:
        """The service of an id; None where it is gone."""
        return self._by_id.get(principal_id)

    def of(self, certificate: PeerCertificate, now_s: float) -> Principal | None:
        """Whose a certificate is; None where it is nobody's. Raises `CertificateUnknown` for one that has run out,
        `CertificateAmbiguous`.
        """
        if now_s >= certificate.expires_at:
            raise CertificateUnknown
        names = [("uri", uri) for uri in certificate.uris]
        names += [("dns", name.lower()) for name in certificate.dns_names]
        names += [("common_name", name) for name in certificate.common_names]
        found = {principal.id: principal for name in names if (principal := self._by_name.get(name)) is not None}
        if len(found) > 1:
            raise CertificateAmbiguous
        return next(iter(found.values()), None)


def _principal(name: str, service: CertificateConfig) -> Principal:
    scopes = frozenset(service.scopes) if service.scopes is not None else None
    if scopes is not None and not (scopes and scopes <= SCOPES):
        raise ConfigError(f"identity: scopes of {name} are some of {', '.join(sorted(SCOPES))}")
    if service.budget:
        parse_budget(f"key:{CERTIFICATE_PREFIX}{name}", service.budget)
    return Principal(
        id=f"{CERTIFICATE_PREFIX}{name}",
        team=service.team,
        roles=frozenset(service.roles),
        apps=frozenset(service.apps) if service.apps is not None else None,
        name=name,
        budget=service.budget,
        scopes=scopes,
    )
