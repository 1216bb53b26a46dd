"""What the exporter of traces needs of other rooms: where endpoints are, and the collector that a manifest names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from roadbed import __version__
from roadbed.gateway.gateway import Gateway
from roadbed.kernel.secrets import resolve_secret
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.otlp import Collector, OtlpExporter
from roadbed.ledger.otlp_rows import Server
from roadbed.releases.manifest import Manifest
from roadbed.wire.client import UpstreamClient


def open_exporter(client: UpstreamClient, gateway: Gateway, metrics: Metrics, name: str) -> OtlpExporter:
    """The exporter of a deployment; it sends nowhere until it is configured."""

    def servers() -> dict[str, Server]:
        found = {}
        for route in list(gateway.routes.values()):
            for endpoint in route.ladder:
                parts = urlsplit(endpoint.url)
                port = parts.port or (443 if parts.scheme == "https" else 80)
                found[endpoint.name] = Server(endpoint.dialect, parts.hostname or "", port)
        return found

    return OtlpExporter(client, metrics, f"roadbed-{name}", __version__, servers)


def collector_of(manifest: Manifest, folder: Path) -> Collector | None:
    """Where a manifest wants its traces sent. `ConfigError`."""
    otlp = manifest.traces.otlp
    if otlp is None:
        return None
    headers = resolve_secret(otlp.headers, base=folder, where="traces.otlp.headers") if otlp.headers else None
    return Collector(otlp.endpoint, headers, otlp.content and manifest.traces.content != "off")
