"""What can go wrong between a caller and a source that wants to know who asks, as typed errors.

A call that ends so was not made, or was refused unread: nothing of it took effect, and it says nothing of how the
source is. The hint says what the caller, or whoever runs the deployment, does about it. The invariant: no message holds
a token, a stored credential or what an authorization server said of one.
"""

from __future__ import annotations

from roadbed.kernel.errors import RoadbedError
from roadbed.sources.errors import SourceUnavailable


class CallerNotTaken(RoadbedError):
    """A source asks for the caller's own identity, and there is none that it takes."""

    code = "sources.caller_not_taken"
    http_status = 403


class CallerCredentialMissing(CallerNotTaken):
    """The caller has stored no credential for a source that is asked with the caller's own."""

    code = "sources.caller_credential_missing"


class CallerNotExchangeable(CallerNotTaken):
    """The caller came with a key, so that there is no token of theirs that could be exchanged for one of the source."""

    code = "sources.caller_not_exchangeable"
    hint = "call with an access token of an issuer in the manifest's `identity`, or sign in to the console through it"


class CallerCredentialRefused(CallerNotTaken):
    """A source refuses the credential that it was shown for this caller."""

    code = "sources.caller_credential_refused"


class ExchangeRefused(CallerNotTaken):
    """The authorization server gives no token of the source for this caller, or one that may not be used."""

    code = "sources.exchange_refused"
    hint = "sign in anew; if it stays so, whoever runs the issuer lets this deployment exchange tokens for the source"


class ExchangeAway(SourceUnavailable):
    """The authorization server that gives tokens for a source does not answer."""

    code = "sources.exchange_away"
    hint = "check that this machine reaches the url of the source's caller_auth.exchange"


NOT_TAKEN = frozenset(
    error.code
    for error in (
        CallerNotTaken,
        CallerCredentialMissing,
        CallerNotExchangeable,
        CallerCredentialRefused,
        ExchangeRefused,
    )
)
"""Codes that mean that the caller, and not the source, has something to mend."""

NOTHING_DONE = NOT_TAKEN | {ExchangeAway.code}
"""Codes after which it is known that a call changed nothing."""
