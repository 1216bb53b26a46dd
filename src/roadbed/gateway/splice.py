"""A caller's chat request on its way to an endpoint of the same dialect: the same bytes, but for the fields that we
route by; of a plain request, whose every field is known, the same values.

Pure. A body is only spliced when what an endpoint reads in it is sure to be what we read in it: fields named twice, or
named with escapes, go the ordinary way, where the request is written anew. The invariant: every byte but the value of
``model`` is the caller's; ``stream`` and ``stream_options`` are added where the caller has none.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from roadbed.gateway.dialects.openai_plain import PlainChat
from roadbed.gateway.dialects.openai_server import Incoming, IncomingChat
from roadbed.gateway.endpoints import Endpoint

ENCODED_MAX = 1024
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")
_TEXT_VALUE = re.compile(rb'\s*:\s*("[^"\\]*")')


def outgoing(body: bytes, incoming: Incoming, endpoint: Endpoint, *, stream: bool) -> tuple[bytes, str | bytes] | None:
    """The body for the endpoint, asking for a stream or not, and the part of it that holds the caller's texts: as text
    with its escapes undone, or all of the body where it is not known. None when the dialect has to write it anew.
    """
    if type(incoming) is PlainChat:  # known to its last field, so writing it is surer than cutting, and faster
        profile = endpoint.profile
        if incoming.max_tokens is not msgspec.UNSET and profile.limit_field != "max_tokens":
            return None
        return incoming.encoded(
            _encoded(endpoint.model),
            stream=stream,
            with_usage=profile.has_stream_usage,
            is_literal=b"\\" not in body,
        )
    assert isinstance(incoming, IncomingChat)
    sent = spliced(body, incoming, endpoint, stream=stream)
    return None if sent is None else (sent, sent)


def spliced(body: bytes, incoming: IncomingChat, endpoint: Endpoint, *, stream: bool) -> bytes | None:
    """The caller's own bytes, with our model for theirs."""
    profile, count = endpoint.profile, body.count
    if not incoming.is_plain or (incoming.limit_field and incoming.limit_field != profile.limit_field):
        return None
    messages = incoming.request.messages
    if not profile.is_faithful:
        return None
    if not profile.has_developer_role and any(message.role == "developer" for message in messages):
        return None
    if count(b'"stream_options"') > incoming.include_usage:
        return None
    if b"\\u00" in body and _ESCAPED_ASCII.search(body) is not None:
        return None
    # As many names as fields, and none with an escape in it: each of these fields is there once.
    if count(b'"model"') != 1 or count(b'"messages"') != 1 or count(b'"content"') != len(messages):
        return None
    if count(b'"stream"') > (incoming.stream or not stream):
        return None
    found = _TEXT_VALUE.match(body, body.index(b'"model"') + 7)
    if found is None:
        return None
    model = _encoded(endpoint.model)
    if stream:
        if not incoming.stream:
            model += b',"stream":true'
        if profile.has_stream_usage and not incoming.include_usage:
            model += b',"stream_options":{"include_usage":true}'
        elif incoming.include_usage and not profile.has_stream_usage:
            return None
    start, end = found.span(1)
    return b"%b%b%b" % (body[:start], model, body[end:])


@lru_cache(maxsize=ENCODED_MAX)
def _encoded(model: str) -> bytes:
    return msgspec.json.encode(model)
