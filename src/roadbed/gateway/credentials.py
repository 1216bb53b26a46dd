"""AWS credentials of an endpoint: from references in the manifest, or from the usual environment variables.

Read once when the endpoint is built; a credential that cannot be read becomes the endpoint's fault, so that the others
still serve. It looks nowhere else: no metadata service, no profile files. The invariant: the variables of the
environment are read only for an endpoint that the manifest declares to be of type ``bedrock``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.providers import host_of
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret, resolve_secret

USUAL_PAIR = ("env:AWS_ACCESS_KEY_ID", "env:AWS_SECRET_ACCESS_KEY")
USUAL_SESSION = "AWS_SESSION_TOKEN"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_BEDROCK_HOST = re.compile(rf"(?:^|\.)bedrock-runtime(?:-fips)?\.({_REGION.pattern})\.")


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """What requests are signed with. ``session_token`` goes with temporary keys."""

    access_key: Secret
    secret_key: Secret
    session_token: Secret | None = None


def aws_credentials(name: str, config: EndpointConfig, base: Path | None) -> tuple[AwsCredentials | None, str]:
    """The credentials of an endpoint of type ``bedrock`` without a bearer key, or why there are none.

    Raises `ConfigError` when the manifest names only one of the two keys.
    """
    if bool(config.access_key) != bool(config.secret_key) or (config.session_token and not config.access_key):
        raise ConfigError(f"endpoints.{name}: access_key and secret_key are named together or not at all")
    is_usual = not config.access_key
    token = config.session_token
    if is_usual and os.environ.get(USUAL_SESSION):
        token = f"env:{USUAL_SESSION}"
    try:
        found = AwsCredentials(
            _read(name, "access_key", config.access_key or USUAL_PAIR[0], base),
            _read(name, "secret_key", config.secret_key or USUAL_PAIR[1], base),
            _read(name, "session_token", token, base) if token else None,
        )
    except ConfigError as error:
        return None, f"no key: {error.message}; or set `key` to a Bedrock API key" if is_usual else error.message
    return found, ""


def bedrock_region(name: str, region: str, url: str) -> str:
    """The region that requests are signed for: as declared, or as the address names it."""
    if not region:
        match = _BEDROCK_HOST.search(host_of(url)) if url else None
        region = match[1] if match else ""
    if not _REGION.fullmatch(region):
        what = f"{region!r} is not a region" if region else "the region is missing"
        raise ConfigError(f"endpoints.{name}.region: {what}", hint="write, for example, region: eu-central-1")
    return region


def _read(name: str, field: str, reference: str, base: Path | None) -> Secret:
    where = f"endpoints.{name}.{field}"
    secret = resolve_secret(reference, base=base, where=where)
    value = secret.reveal()
    if not (value and value.isascii() and value.isprintable() and " " not in value):
        raise ConfigError(f"{where}: it holds characters that no key has")
    return secret
