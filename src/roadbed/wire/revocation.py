"""Lists of revoked certificates (RFC 5280): reading their file, what is wrong with it, and whose certificate is on it.

OpenSSL itself looks a client's certificate up when it connects, and every authority's above it
(``VERIFY_CRL_CHECK_CHAIN``), and refuses it where a list is missing, has run out or names one of them. Here the file is
looked at before OpenSSL gets what is in it, so that a damaged one is refused with a reason, and connections that were
open before a new list came are found. The invariant: what cannot be read, or is not signed by the authority that it
names, is never taken.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from roadbed.wire.errors import InvalidTlsFile

CRL_BYTES_MAX: Final = 32 * 1024 * 1024
LISTS_MAX: Final = 100
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----")

_DER_BEGINS = b"\x30"  # a sequence
_CHAIN_MAX = 10

Lists = Sequence[x509.CertificateRevocationList]


class InvalidCrlFile(InvalidTlsFile):
    """A list of revoked certificates cannot be read, or is not of an authority that clients are verified by."""

    code = "wire.invalid_crl_file"
    hint = "one list in DER, or in PEM one of each authority in --tls-client-ca and of those between"


def read_lists(file: str, authorities: str) -> Lists:
    """The lists of a file, in PEM, or one in DER; each signed by its authority, where ``authorities`` has that.
    Raises `InvalidCrlFile`.
    """
    try:
        if os.stat(file).st_size > CRL_BYTES_MAX:
            raise InvalidCrlFile(f"the CRL file {file} is larger than {CRL_BYTES_MAX:,} bytes", file=file)
        with open(file, "rb") as opened:
            content = opened.read()
        known = _known(authorities)
        is_der = content.startswith(_DER_BEGINS)
        blocks = [content] if is_der else _BLOCK.findall(content)
        load = x509.load_der_x509_crl if is_der else x509.load_pem_x509_crl
        lists = [load(block) for block in blocks[:LISTS_MAX]]
    except OSError as error:
        raise InvalidCrlFile(f"the CRL file {file} cannot be read: {error.strerror}", file=file) from None
    except ValueError:
        raise InvalidCrlFile(f"the CRL file {file} is damaged", file=file) from None
    if not lists or len(blocks) > LISTS_MAX:
        raise InvalidCrlFile(f"the CRL file {file} holds {len(blocks)} lists, not 1 to {LISTS_MAX}", file=file)
    for one in lists:
        issuers = [authority for authority in known if authority.subject == one.issuer]
        if issuers and not any(_is_signed(one, authority) for authority in issuers):
            raise InvalidCrlFile(f"the list of {name_of(one)} in {file} is not signed by that authority", file=file)
    return lists


def faults_of(lists: Lists, now: datetime | None = None) -> list[str]:
    """Why lists do not hold now: until there are others, OpenSSL refuses every certificate of those authorities."""
    now = now or datetime.now(UTC)
    found = []
    for one in lists:
        if one.next_update_utc is not None and one.next_update_utc <= now:
            found.append(f"the list of {name_of(one)} has run out on {one.next_update_utc:%Y-%m-%d %H:%M} UTC")
        elif one.last_update_utc > now:
            found.append(f"the list of {name_of(one)} begins on {one.last_update_utc:%Y-%m-%d %H:%M} UTC")
    return found


def unlisted(lists: Lists, authorities: str) -> list[str]:
    """Which of the authorities in a file have no list: OpenSSL refuses every certificate below them."""
    listed = {one.issuer for one in lists}
    missing = [authority for authority in _known(authorities) if authority.subject not in listed]
    return [f"there is no list of {authority.subject.rfc4514_string()[:200]}" for authority in missing]


def is_revoked(lists: Lists, certificate: bytes, authorities: str) -> bool:
    """Whether a certificate (DER), or an authority above it, is on a list.

    True, too, where the chain leads over an authority that only the client has shown: a new connection, which brings it
    along, will tell.
    """
    known = _known(authorities)
    shown = x509.load_der_x509_certificate(certificate)
    for _ in range(_CHAIN_MAX):
        for one in lists:
            if one.issuer == shown.issuer and one.get_revoked_certificate_by_serial_number(shown.serial_number):
                return True
        if shown.issuer == shown.subject:
            return False
        above = next((authority for authority in known if authority.subject == shown.issuer), None)
        if above is None:
            return True
        shown = above
    return True


def require_lists(context: ssl.SSLContext, lists: Lists) -> None:
    """Let a server's context ask the lists about each client's certificate and its authorities'.

    OpenSSL reads lists from files alone: it gets one of those that were checked, not the file that they came from.
    """
    with tempfile.NamedTemporaryFile(prefix="roadbed-crl-") as file:
        file.write(b"".join(one.public_bytes(Encoding.PEM) for one in lists))
        file.flush()
        context.load_verify_locations(file.name)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _known(authorities: str) -> list[x509.Certificate]:
    with open(authorities, "rb") as opened:
        return x509.load_pem_x509_certificates(opened.read())


def name_of(one: x509.CertificateRevocationList) -> str:
    """The authority's name, in one line."""
    return one.issuer.rfc4514_string()[:200]


def _is_signed(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key: Any = authority.public_key()
    try:
        return one.is_signature_valid(key)
    except (TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
