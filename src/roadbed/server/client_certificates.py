"""The client's certificate of a request, where it may speak for it. A browser shows it for any page that asks, so a
page of another site gets no use of it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from roadbed.kernel.errors import Forbidden
from roadbed.wire.peer_certificate import SCOPE_KEY, PeerCertificate
from roadbed.wire.request import HotRequest


class CertificateFromPage(Forbidden):
    """A page of another site made the browser send this request with its user's certificate."""

    code = "auth.certificate_from_page"
    hint = "call from a program, or from a page of this deployment"

    def __init__(self) -> None:
        super().__init__("a page of another site may not use the certificate of its visitor")


def certificate_of(request: HotRequest) -> PeerCertificate | None:
    """Of a hot path's request. Raises `CertificateFromPage`."""
    certificate = request.certificate
    if certificate is not None:
        _check_page(request.get(b"sec-fetch-site"), request.get(b"origin"), request.get(b"host"))
    return certificate


def certificate_shown(request: Request) -> PeerCertificate | None:
    """Of another request. Raises `CertificateFromPage`."""
    certificate: PeerCertificate | None = request.scope.get(SCOPE_KEY)
    if certificate is not None:
        sent = dict(request.headers.raw)
        _check_page(sent.get(b"sec-fetch-site"), sent.get(b"origin"), sent.get(b"host"))
    return certificate


def _check_page(site: bytes | None, origin: bytes | None, host: bytes | None) -> None:
    if site is not None and site not in (b"same-origin", b"none"):
        raise CertificateFromPage
    if origin is not None and site is None:
        netloc = urlsplit(origin.decode("latin-1")).netloc.lower()
        if netloc != (host or b"").decode("latin-1").lower():
            raise CertificateFromPage
