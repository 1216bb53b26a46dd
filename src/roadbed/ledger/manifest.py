"""The manifest section ``traces``: what is kept of requests, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN


class OtlpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OpenTelemetry collector that gets every trace, by OTLP over HTTP (JSON)."""

    endpoint: Annotated[
        str, Meta(min_length=1, description="base address, for example http://collector:4318; /v1/traces is added")
    ]
    headers: Annotated[
        str, Meta(description="reference to headers as name=value with commas between: env:NAME or file:PATH")
    ] = ""
    content: Annotated[
        bool, Meta(description="whether masked questions and answers are sent, where traces.content keeps them")
    ] = False


class LockConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lock (S3 Object Lock) that each copy of a checkpoint gets, beside what the bucket itself asks for."""

    keep: Annotated[
        str, Meta(pattern=DURATION_PATTERN, description="how long a copy can be neither changed nor removed")
    ]
    mode: Annotated[
        Literal["compliance", "governance"],
        Meta(description="`compliance`: by nobody; `governance`: only by whom the bucket's owner permits it"),
    ] = "compliance"


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tamper-evident record: how often it is signed, with what key, and where the copies go."""

    every: Annotated[str, Meta(pattern=DURATION_PATTERN, description="how often a checkpoint is signed")] = "60s"
    key: Annotated[
        str,
        Meta(description="reference to the signing key (32 bytes in base64): env:NAME or file:PATH; else one in STATE"),
    ] = ""
    next_key: Annotated[
        str, Meta(description="reference to the key that `roadbed audit rotate-key` goes over to, where `key` is given")
    ] = ""
    ship_to: Annotated[
        list[str],
        Meta(description="second places for checkpoints: folders, s3://..., or https://HOST/api/audit/witness"),
    ] = []
    lock: Annotated[LockConfig | None, Meta(description="a lock on each copy in an s3:// bucket with Object Lock")] = (
        None
    )
    witness_key: Annotated[
        str, Meta(description="reference to the key (role auditor) that a witness wants: env:NAME or file:PATH")
    ] = ""
    webhook: Annotated[str, Meta(description="reference to an address that is told when a log does not hold")] = ""


class RetentionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long what is stored stays. Traces stay as long as `traces.keep` says."""

    usage: Annotated[str, Meta(pattern=DURATION_PATTERN, description="usage and cost records")] = "400d"
    audit: Annotated[
        str, Meta(pattern=DURATION_PATTERN, description="audit records; a signed stub of what was removed stays")
    ] = "2557d"
    uploads: Annotated[
        str, Meta(pattern=DURATION_PATTERN, description="uploaded documents, since they were last sent")
    ] = "36500d"
    spool: Annotated[str, Meta(pattern=DURATION_PATTERN, description="damaged spool files, which are set aside")] = (
        "30d"
    )


class TracesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trace retention. ``masked`` keeps questions and answers with personal data and secrets as placeholders."""

    content: Annotated[Literal["off", "masked"], Meta(description="whether masked text of requests is kept")] = "masked"
    keep: Annotated[str, Meta(pattern=DURATION_PATTERN, description="how long traces are kept")] = "7d"
    otlp: Annotated[OtlpConfig | None, Meta(description="an OpenTelemetry collector that gets every trace")] = None
