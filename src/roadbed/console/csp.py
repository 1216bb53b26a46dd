"""The headers of every console response: the content security policy, what may be kept, and what is never sent on.

Pure. Pages allow no inline script or style and no request to another origin, so what a model or a document says can
neither run nor call home. The invariant: every response of the console passes `protect`.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
STATIC_KEEP: Final = "public, max-age=31536000, immutable"


def protect(response: Response, *, keep: str = "no-store") -> Response:
    """The response with the console's headers; ``keep`` is its Cache-Control unless it names one itself."""
    headers = response.headers
    headers["content-security-policy"] = POLICY
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "no-referrer"
    headers["cross-origin-opener-policy"] = "same-origin"
    headers.setdefault("cache-control", keep)
    return response
