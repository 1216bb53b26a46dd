"""Secrets: values with a masked repr, and references (``env:NAME``, ``file:PATH``) that are resolved late.

The invariant: a `Secret` never shows its value in ``repr``, ``str``, a format string, a pickle or a comparison error.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import NoReturn

from roadbed.kernel.errors import ConfigError

SECRET_FILE_BYTES_MAX = 64 * 1024
REFERENCE_SCHEMES = ("env", "file")


class Secret:
    """A value that is only given out by `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; call it where it is sent, nowhere else."""
        return self._value

    def equals(self, other: str) -> bool:
        """Constant-time comparison with ``other``."""
        return hmac.compare_digest(self._value.encode(), other.encode())

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


def is_reference(text: str) -> bool:
    """Whether ``text`` names a secret (``env:NAME``, ``file:PATH``) and does not hold one."""
    scheme, colon, rest = text.partition(":")
    return bool(colon) and scheme in REFERENCE_SCHEMES and bool(rest)


def resolve_secret(reference: str, *, base: Path | None = None, where: str = "") -> Secret:
    """The value behind ``env:NAME`` or ``file:PATH`` (relative to ``base``); `ConfigError` when it is not there."""
    scheme, _, rest = reference.partition(":")
    if not is_reference(reference):
        raise ConfigError(
            f"{where or 'a secret'} must be a reference such as env:NAME or file:PATH, not the secret itself"
        )
    if scheme == "env":
        value = os.environ.get(rest)
        if not value:
            message = f"{where or reference}: the environment variable {rest} is not set"
            raise ConfigError(message, hint=f"export {rest}=...")
        return Secret(value)
    path = Path(rest).expanduser()
    if base is not None and not path.is_absolute():
        path = base / path
    try:
        if path.stat().st_size > SECRET_FILE_BYTES_MAX:
            raise ConfigError(f"{where or reference}: {path} is larger than {SECRET_FILE_BYTES_MAX} bytes")
        return Secret(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ConfigError(f"{where or reference}: {path} cannot be read: {error.strerror}") from None
