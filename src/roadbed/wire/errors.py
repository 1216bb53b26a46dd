"""Every error of the wire: what a peer, a proxy or the network did, each with its stable ``wire.*`` code.

    RoadbedError
    ├── InvalidRequest
    │   └── RequestRefused      a request that the server will not read further (always followed by close)
    │       └── MalformedRequest, TargetTooLong, HeadTooLarge, BodyTooLarge, SlowRequest, ExpectationFailed,
    │           UnsupportedMethod, UnsupportedVersion, CertificateRequired
    └── Unavailable
        └── UpstreamFailed      an upstream HTTP exchange that did not give a whole response
            ├── NotSent         the request never left: ConnectRefused, ConnectTimeout, ConnectFailed,
            │                   NameUnresolved, TlsFailed, ProxyRefused, PoolExhausted
            └── HeadTimeout, ResponseTimeout, ResponseCut, ResponseMalformed, ResponseTooLarge

The invariant: no message carries a header value, a query string or body text; hosts and ports are named, and nothing
more.
"""

from __future__ import annotations

from typing import ClassVar

from roadbed.kernel.errors import ConfigError, InvalidRequest, RoadbedError, Unavailable


class RequestRefused(InvalidRequest):
    """The request breaks a rule of HTTP/1.1 or one of the server's limits; the connection closes after the answer."""

    code = "wire.request_refused"


class MalformedRequest(RequestRefused):
    """The request's bytes are not strict HTTP/1.1, or its framing is doubtful."""

    code = "wire.malformed_request"


class TargetTooLong(RequestRefused):
    """The request target (path and query) is longer than the limit."""

    code = "wire.target_too_long"
    http_status = 414


class HeadTooLarge(RequestRefused):
    """The request has too many header lines, or too many bytes of them."""

    code = "wire.head_too_large"
    http_status = 431


class BodyTooLarge(RequestRefused):
    """The request's body is over the limit of its address."""

    code = "wire.body_too_large"
    http_status = 413


class SlowRequest(RequestRefused):
    """The request's head or body came in too slowly."""

    code = "wire.slow_request"
    http_status = 408
    retryable = True


class ExpectationFailed(RequestRefused):
    """The request's ``Expect`` header asks for something other than ``100-continue``."""

    code = "wire.expectation_failed"
    http_status = 417


class UnsupportedMethod(RequestRefused):
    """The request's method opens a tunnel, which this server does not do."""

    code = "wire.unsupported_method"
    http_status = 405


class UnsupportedVersion(RequestRefused):
    """The request speaks an HTTP version other than 1.0 or 1.1."""

    code = "wire.unsupported_version"
    http_status = 505


class CertificateRequired(RequestRefused):
    """The server takes requests from other machines over connections with a client's certificate alone."""

    code = "wire.certificate_required"
    http_status = 401
    hint = "connect with a certificate of an authority that the server was started with (--tls-client-ca)"


class PortInUse(RoadbedError):
    """Another process listens on the address that the server was told to use."""

    code = "wire.port_in_use"
    hint = "stop the other process, or choose another port (--port 0 takes a free one)"


class BindFailed(RoadbedError):
    """The server's address cannot be bound: it is not of this machine, or needs more rights."""

    code = "wire.bind_failed"
    hint = "choose an address of this machine and a port above 1023"


class UpstreamFailed(Unavailable):
    """An exchange with an upstream server gave no whole response.

    ``may_have_run`` is false when the request certainly never reached the upstream, so that a repeat has no double
    effect.
    """

    code = "wire.upstream_failed"
    http_status = 502
    may_have_run: ClassVar[bool] = True


class NotSent(UpstreamFailed):
    """The request never left: nothing happened upstream."""

    code = "wire.not_sent"
    may_have_run = False


class ConnectRefused(NotSent):
    """The upstream's port refuses connections: nothing listens there."""

    code = "wire.connect_refused"


class ConnectTimeout(NotSent):
    """No connection to the upstream was made in time."""

    code = "wire.connect_timeout"
    http_status = 504


class ConnectFailed(NotSent):
    """The network could not reach the upstream."""

    code = "wire.connect_failed"


class NameUnresolved(NotSent):
    """The upstream's host name has no address."""

    code = "wire.name_unresolved"
    hint = "check the host name and this machine's resolver"


class TlsFailed(NotSent):
    """The TLS handshake with the upstream failed: an untrusted, expired or wrong certificate, or a missing client
    one.
    """

    code = "wire.tls_failed"
    hint = "check the certificate's host name and dates; add a private authority as an extra CA file"


class ProxyRefused(NotSent):
    """The forward proxy would not open a tunnel to the upstream."""

    code = "wire.proxy_refused"
    hint = "check HTTPS_PROXY / HTTP_PROXY / NO_PROXY and the proxy's own rules"


class PoolExhausted(NotSent):
    """All connections to the upstream are busy, and the wait for one is full or over."""

    code = "wire.pool_exhausted"
    http_status = 503


class HeadTimeout(UpstreamFailed):
    """The upstream took the request and sent no response head in time."""

    code = "wire.head_timeout"
    http_status = 504


class ResponseTimeout(UpstreamFailed):
    """The upstream's response was not complete in time."""

    code = "wire.response_timeout"
    http_status = 504


class ResponseCut(UpstreamFailed):
    """The upstream closed the connection before its response was complete."""

    code = "wire.response_cut"


class ResponseMalformed(UpstreamFailed):
    """The upstream's bytes are not a strict HTTP/1.1 response."""

    code = "wire.response_malformed"
    retryable = False


class ResponseTooLarge(UpstreamFailed):
    """The upstream's response head or body is over its limit."""

    code = "wire.response_too_large"
    retryable = False


class EventTooLarge(UpstreamFailed):
    """One server-sent event is over the limit."""

    code = "wire.event_too_large"
    retryable = False


class InvalidUrl(ConfigError):
    """An upstream's address is not an absolute http or https URL."""

    code = "wire.invalid_url"
    hint = "write it as http://host:port/path or https://host/path, without user name or fragment"


class InvalidProxy(ConfigError):
    """A proxy address in the environment cannot be used."""

    code = "wire.invalid_proxy"
    hint = "write it as http://host:port or http://user:password@host:port"


class InvalidTlsFile(ConfigError):
    """A certificate, key or CA file cannot be read."""

    code = "wire.invalid_tls_file"
    hint = "check that the file exists, is readable and holds PEM"
