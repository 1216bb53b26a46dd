"""What can go wrong with another MCP server, as typed errors. The toolbox turns each into an outcome.

The invariant: no message holds text that the server sent, an argument or a credential.
"""

from __future__ import annotations

from roadbed.kernel.errors import ConfigError, DeadlineExceeded, TooLarge, Unavailable


class UpstreamUnavailable(Unavailable):
    """Another MCP server does not answer; its tools stay listed, from the lock file."""

    code = "tools.upstream_unavailable"
    hint = "check that the server runs and that the source's url or command is right"


class UpstreamMisbehaved(Unavailable):
    """Another MCP server answered with something that its protocol does not allow."""

    code = "tools.upstream_misbehaved"
    retryable = False
    hint = "the server is at fault; what it sent was thrown away"


class UpstreamTimeout(DeadlineExceeded):
    """Another MCP server did not answer before the deadline; a stdio server was ended."""

    code = "tools.upstream_timeout"
    hint = "ask for less, or allow more time with the source's timeout"


class UpstreamResultTooLarge(TooLarge):
    """The result of another MCP server's tool is over the bound."""

    code = "tools.result_too_large"
    hint = "ask the tool for less"


class LockInvalid(ConfigError):
    """``tools.lock`` cannot be read, or a definition in it does not have the digest that is written beside it."""

    code = "tools.lock_invalid"
    hint = "take the file from git again, or write it anew: roadbed tools lock --accept SOURCE"
