"""The tree of errors that every room raises and every edge (HTTP, CLI, console) renders.

    RoadbedError
    ├── ConfigError            the manifest or a setting is wrong; carries file and line
    ├── InvalidRequest         the caller's fault, 4xx
    │   ├── Unauthorized / Forbidden / NotFound / Conflict / TooLarge / RateLimited
    ├── Unavailable            a dependency is away; retryable
    ├── DeadlineExceeded       the request's one absolute deadline has passed
    └── Refused                policy or labels forbid it; never widened to another candidate

Each leaf class that a room derives declares one stable dotted ``code``; its docstring is its entry in the generated
error index. The invariant: a message names what happened, to which named thing, and what to do; never a prompt, key
or row.
"""

from __future__ import annotations

from typing import Any, ClassVar

ERRORS_PATH = "/docs/errors"
"""Where a server explains its error codes."""


def problem_type(code: str) -> str:
    """The ``type`` of a problem (RFC 9457): where its code is explained."""
    return f"{ERRORS_PATH}#{code}"


class RoadbedError(Exception):
    """Something that Roadbed can name went wrong."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint:
            self.hint = hint
        self.retry_after_s = retry_after_s

    @classmethod
    def meaning(cls) -> str:
        """What the code stands for: the class's docstring on one line."""
        return " ".join((cls.__doc__ or "").split()).replace("``", "`")

    def problem(self) -> dict[str, Any]:
        """RFC 9457 problem details, as every address outside ``/v1`` answers."""
        body: dict[str, Any] = {
            "type": problem_type(self.code),
            "title": self.code,
            "status": self.http_status,
            "detail": self.message,
            "code": self.code,
            "retryable": self.retryable,
        }
        if self.hint:
            body["hint"] = self.hint
        return body


class ConfigError(RoadbedError):
    """The manifest, a prompt file or a setting is wrong. ``file`` and ``line`` say where; ``others`` came beside it."""

    code = "config.invalid"
    http_status = 400

    def __init__(self, message: str, *, hint: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.others: tuple[ConfigError, ...] = ()

    def __str__(self) -> str:
        """One line: ``file:line: message (hint)``."""
        where = f"{self.file}:{self.line}: " if self.line else (f"{self.file}: " if self.file else "")
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidRequest(RoadbedError):
    """The request cannot be served as it was sent. ``param`` is the path of the offending field, where there is one."""

    code = "request.invalid"
    http_status = 400

    def __init__(
        self, message: str, *, hint: str = "", param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.param = param


class Unauthorized(InvalidRequest):
    """No key, or a key that is unknown, expired or revoked."""

    code = "auth.unauthorized"
    http_status = 401


class Forbidden(InvalidRequest):
    """The caller is known, and may not do this."""

    code = "auth.forbidden"
    http_status = 403


class NotFound(InvalidRequest):
    """The named thing does not exist, or the caller may not know that it does."""

    code = "request.not_found"
    http_status = 404


class Conflict(InvalidRequest):
    """The thing changed since the caller looked at it."""

    code = "request.conflict"
    http_status = 409


class TooLarge(InvalidRequest):
    """A body, document or result is over its named bound."""

    code = "request.too_large"
    http_status = 413


class RateLimited(InvalidRequest):
    """A rate or budget of the caller is spent; ``retry_after_s`` says when it is not."""

    code = "limits.rate_limited"
    http_status = 429
    retryable = True


class Unavailable(RoadbedError):
    """A dependency (database, model, source) does not answer just now."""

    code = "unavailable"
    http_status = 503
    retryable = True


class DeadlineExceeded(RoadbedError):
    """The request's one absolute deadline passed before an answer could be given."""

    code = "deadline_exceeded"
    http_status = 504
    retryable = True


class Refused(RoadbedError):
    """Policy or labels forbid the request; no wider set of candidates is tried."""

    code = "refused"
    http_status = 403


_PRODUCT = "roadbed."


def all_errors() -> list[type[RoadbedError]]:
    """Every error class of the product that the running process has loaded, sorted by code.

    It is the source of the generated error index, and of the page that the ``type`` of a problem points to: a class
    that was raised is loaded.
    """
    seen: dict[str, type[RoadbedError]] = {}
    stack: list[type[RoadbedError]] = [RoadbedError]
    while stack:
        cls = stack.pop()
        if "code" in cls.__dict__ and cls.__module__.startswith(_PRODUCT):
            seen[cls.code] = cls
        stack.extend(cls.__subclasses__())
    return [seen[code] for code in sorted(seen)]
