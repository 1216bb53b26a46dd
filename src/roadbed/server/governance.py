"""The register of models, apps and data as a deployment has it: approvals, cards, and what `roadbed ready` looks at."""

from __future__ import annotations

from datetime import UTC, datetime

from roadbed.controls.governance import Approval, Register, model_digest, register_of, unapproved_of
from roadbed.controls.readiness import Surroundings
from roadbed.kernel.errors import Conflict, NotFound
from roadbed.server.control_parts import DeploymentParts
from roadbed.server.model_approvals import keep_approval

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ModelUnapproved(Conflict):
    """An app's model was not approved as it is, and the workspace requires that."""

    code = "governance.unapproved"
    hint = "`roadbed models approve NAME --by WHO` approves it; `roadbed cards --out DIR` shows what is approved"


class UnknownRegistered(NotFound):
    """The register has no model of that name."""

    code = "governance.unknown_model"


async def register(services: DeploymentParts) -> Register:
    """The register of what serves."""
    rows = await services.database.fetch(
        "SELECT DISTINCT ON (model) model, digest, who, at, note FROM model_approval ORDER BY model, at DESC"
    )
    approvals = {
        row["model"]: Approval(*(row[name] for name in ("model", "digest", "who", "at", "note"))) for row in rows
    }
    return register_of(services.manifest, approvals)


def check_model(services: DeploymentParts, model: str) -> None:
    """`UnknownRegistered` for a model that the register does not have."""
    if model not in services.manifest.models:
        known = ", ".join(sorted(services.manifest.models)) or "none"
        raise UnknownRegistered(f"there is no model {model[:100]!r}", hint=f"models: {known}")


async def approve(services: DeploymentParts, model: str, who: str, note: str, actor: str) -> str:
    """Approve a model as it is now; the digest that the approval is bound to. `InvalidRequest` for a name with a secret
    in it.
    """
    check_model(services, model)
    digest = model_digest(model, services.manifest)
    await keep_approval(services, model, digest, who, note, actor)
    return digest


async def require_approval(services: DeploymentParts, app: str) -> None:
    """Refuse a promotion whose model nobody approved, where the workspace wants that. `ModelUnapproved`."""
    if not services.manifest.governance.require_approval:
        return
    missing = unapproved_of(app, await register(services))
    if missing:
        raise ModelUnapproved(f"{app} cannot be promoted: nobody has approved {', '.join(missing)} as it is")


async def surroundings_of(services: DeploymentParts) -> Surroundings:
    """What `readiness` needs beyond the manifest."""
    settings, standing = services.settings, await services.controls.stand(is_fresh=True)
    restored, found = await services.controls.store.last_note("restore"), await register(services)
    return Surroundings(
        is_embedded=settings.is_embedded,
        is_encrypted=settings.tls_cert is not None or settings.behind_proxy,
        is_open=settings.host not in LOOPBACK,
        failed_controls=tuple(one.id for one in standing if one.is_failed),
        unrun_controls=tuple(one.id for one in standing if one.last is None),
        restored_days=(datetime.now(UTC) - restored).days if restored is not None else None,
        unapproved=tuple(model.name for model in found.models if not model.is_approved),
        today=datetime.now(UTC).date(),
    )
