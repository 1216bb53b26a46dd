"""The controls of a deployment, made over its services; started in the owner alone, once it listens."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from roadbed import __version__
from roadbed.controls.canary import CanaryControl
from roadbed.controls.control import Control
from roadbed.controls.evidence import EvidenceStore, Stamp
from roadbed.controls.frameworks import control_map
from roadbed.controls.register import Controls
from roadbed.controls.sinks import Sinks
from roadbed.server.canary_ground import CanaryGround, HttpCaller

if TYPE_CHECKING:
    from roadbed.server.services import Services


def open_controls(services: Services) -> Controls:
    """The register with every control; nothing runs yet."""

    def stamp() -> Stamp:
        served = services.registry.served
        digests = sorted(f"{name}:{app.release.digest}" for name, app in served.apps.items())
        releases = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Stamp(services.manifest.name, __version__, releases, control_map().version)

    trail = services.trail
    store = EvidenceStore(services.database, trail.sign_text)
    controls = Controls(store, trail, trail.shipping.alarm, services.metrics, stamp)
    services.own_calls = HttpCaller()
    controls.use(_all(services, services.own_calls))
    return controls


def _all(services: Services, caller: HttpCaller) -> list[Control]:
    embedded, state = services.embedded, services.settings.state
    sinks = Sinks(services.database, state, embedded.superuser if embedded is not None else None)
    return [CanaryControl(CanaryGround(services, caller), sinks, state / "run")]


def start_controls(services: Services, url: str) -> None:
    """Run what is due from now on, in the owner, whose server listens at ``url``."""
    services.own_calls.url = url
    services.controls.start()
