"""Lists of revoked certificates (RFC 5280): reading their file, what is wrong with it, and whose certificate is on it.

OpenSSL itself looks a client's certificate up when it connects (``VERIFY_CRL_CHECK_LEAF``) and refuses it where the
authority's list is missing, has run out or names it. Here the file is looked at before OpenSSL gets it, so that a
damaged one is refused with a reason, and connections that were open before a new list came are found. The invariant:
what cannot be read, or is not signed by the authority that it names, is never taken.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from roadbed.wire.errors import InvalidTlsFile

CRL_BYTES_MAX: Final = 32 * 1024 * 1024
LISTS_MAX: Final = 100
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----")

Lists = Sequence[x509.CertificateRevocationList]


class InvalidCrlFile(InvalidTlsFile):
    """A list of revoked certificates cannot be read, or is not of an authority that clients are verified by."""

    code = "wire.invalid_crl_file"
    hint = (
        "PEM, one list of each authority in --tls-client-ca; of DER: `openssl crl -inform DER -in FILE -out FILE.pem`"
    )


def read_lists(file: str, authorities: str) -> Lists:
    """The lists of a PEM file, each signed by its authority, where that is in the file ``authorities``.
    Raises `InvalidCrlFile`.
    """
    try:
        if os.stat(file).st_size > CRL_BYTES_MAX:
            raise InvalidCrlFile(f"the CRL file {file} is larger than {CRL_BYTES_MAX:,} bytes", file=file)
        with open(file, "rb") as opened:
            blocks = _BLOCK.findall(opened.read())
        with open(authorities, "rb") as opened:
            known = x509.load_pem_x509_certificates(opened.read())
        lists = [x509.load_pem_x509_crl(block) for block in blocks[:LISTS_MAX]]
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


def is_revoked(lists: Lists, certificate: bytes) -> bool:
    """Whether a certificate (DER) is on a list."""
    shown = x509.load_der_x509_certificate(certificate)
    return any(
        one.issuer == shown.issuer and one.get_revoked_certificate_by_serial_number(shown.serial_number) is not None
        for one in lists
    )


def require_lists(context: ssl.SSLContext, file: str) -> None:
    """Let a server's context ask the lists of a file about each client's certificate. Raises `InvalidCrlFile`."""
    try:
        context.load_verify_locations(file)
    except (OSError, ssl.SSLError):
        raise InvalidCrlFile(f"the CRL file {file} cannot be read", file=file) from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def name_of(one: x509.CertificateRevocationList) -> str:
    """The authority's name, in one line."""
    return one.issuer.rfc4514_string()[:200]


def _is_signed(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key: Any = authority.public_key()
    try:
        return one.is_signature_valid(key)
    except (TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
