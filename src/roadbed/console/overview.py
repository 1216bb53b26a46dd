"""Overview: what runs, whether it is well, and what to do next. The first page after signing in.

It reads counts and states alone, no text. A part that is away leaves its section out with a note; the page itself
always answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from roadbed.apps.registry import ServedApp
from roadbed.console.sources import is_busy, visible_states
from roadbed.console.visits import Page, Visit
from roadbed.gateway.providers import FoundKey, describe_environment
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.knowledge.states import SourceState
from roadbed.ledger.queries import UsageTotal

USAGE_WITHIN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class NextStep:
    """Something worth doing now: a sentence, and a page or a command that does it."""

    text: str
    path: str = ""
    label: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class AppLine:
    """One app as the page lists it."""

    name: str
    kind: str
    description: str
    release: str
    model: str | None
    requests: int
    cost_microusd: int


async def overview(visit: Visit) -> Page:
    """What runs, how it is, and what to do next."""
    services = visit.services
    parts = dict(services.parts())
    sources: list[SourceState] | None
    try:
        sources = visible_states(await services.knowledge.source_states(), visit.principal)
    except (Unavailable, DeadlineExceeded):
        sources = None
    usage: list[UsageTotal] = []
    if visit.is_auditor:
        try:
            usage = await services.reader.usage_by_app(USAGE_WITHIN)
        except (Unavailable, DeadlineExceeded):
            usage = []
    served = {name: app for name, app in services.apps().items() if services.may_use(visit.principal, name)}
    apps = app_lines(served, usage)
    endpoints = endpoint_lines(visit)
    unused_keys = describe_environment() if visit.is_auditor else []
    problem = services.problem() if visit.is_auditor else None
    known = sources if sources or visit.is_auditor else None
    steps = next_steps(known, apps, endpoints, unused_keys, problem, has_asked=any(line.requests for line in usage))
    if (jobs := parts.get("jobs", "ok")) != "ok":
        steps.insert(0, NextStep(f"Free some disk space: {jobs}."))
    unwell = [name for name, text in parts.items() if text != "ok"]
    context = {
        "parts": parts,
        "problem": problem,
        "sources": sources,
        "apps": apps,
        "endpoints": endpoints,
        "engines": services.engines() if visit.is_auditor else (),
        "unused_keys": unused_keys,
        "steps": steps,
        "summary": summary(sources, apps, endpoints, unwell),
        "is_busy": is_busy(sources),
        "url": services.url,
    }
    return Page("overview.html", "Overview", context, {**context, "name": services.name, "version": services.version})


def app_lines(served: Mapping[str, ServedApp], usage: Sequence[UsageTotal]) -> list[AppLine]:
    """The apps with their releases and what they did in the last day."""
    totals = {total.app: total for total in usage}
    lines = []
    for name, app in served.items():
        route, total = app.route(), totals.get(name)
        lines.append(
            AppLine(
                name,
                app.config.kind,
                app.config.description,
                app.release.digest,
                route.name if route is not None and app.config.kind != "search" else None,
                total.requests if total is not None else 0,
                total.cost_microusd if total is not None else 0,
            )
        )
    return lines


def endpoint_lines(visit: Visit) -> list[dict[str, Any]]:
    """Every endpoint of every route that the caller may use, in the order in which it is asked.

    Where an endpoint is, and why it is not asked, is for those who run the deployment.
    """
    services, gateway = visit.services, visit.services.gateway
    names = [name for name in gateway.routes if services.may_use(visit.principal, name)]
    lines = [{"route": name, **row} for name in names for row in gateway.explain(name)]
    if visit.is_auditor:
        return lines
    return [
        {**line, "address": "another machine", "unavailable": "not now" if line["unavailable"] else ""}
        for line in lines
    ]


def summary(
    sources: Sequence[SourceState] | None,
    apps: Sequence[AppLine],
    endpoints: Sequence[Mapping[str, Any]],
    unwell: Sequence[str],
) -> str:
    """One sentence: is it well, and what is there."""
    if unwell:
        return f"Needs attention: {', '.join(unwell)}."
    documents = sum(source.indexed for source in sources or ())
    amount = f"{documents:,} {'document is' if documents == 1 else 'documents are'} indexed"
    serving = f"{len(apps)} {'app serves' if len(apps) == 1 else 'apps serve'}"
    how = "" if endpoints else " without a model, by quoting the documents verbatim"
    busy = " More are being read." if is_busy(sources) else ""
    return f"Everything that was checked is well: {amount} and {serving}{how}.{busy}"


def next_steps(
    sources: Sequence[SourceState] | None,
    apps: Sequence[AppLine],
    endpoints: Sequence[Mapping[str, Any]],
    unused_keys: Sequence[FoundKey],
    problem: str | None,
    *,
    has_asked: bool,
) -> list[NextStep]:
    """What to do next, most pressing first."""
    steps: list[NextStep] = []
    if problem:
        steps.append(NextStep("The manifest on disk is not served. Correct it and save; the old one goes on serving."))
    if sources is not None and not sources:
        steps.append(NextStep("No source is declared, so there is nothing to answer from.", command="roadbed init"))
    for source in sources or ():
        page = f"/console/documents?source={source.name}"
        if source.state == "held":
            text = f"{source.name} lost {source.held:,} documents at once, so they were kept. Confirm or restore."
            steps.append(NextStep(text, command=f"roadbed ingest {source.name} --delete-held"))
        elif source.state == "failed":
            steps.append(NextStep(f"{source.name} cannot be listed: {source.message}", page, "Look at the source"))
        elif source.failed:
            noun = "document" if source.failed == 1 else "documents"
            text = f"{source.failed:,} {noun} of {source.name} could not be read."
            steps.append(NextStep(text, f"{page}&state=failed", "See why"))
    if sources and not any(source.indexed for source in sources) and not is_busy(sources):
        steps.append(NextStep("No document is indexed yet.", "/console/documents", "Look at the sources"))
    if apps and not has_asked:
        steps.append(NextStep("Ask your first question.", "/console/ask", "Ask"))
    if not endpoints:
        text = "No model is configured: answers are verbatim sentences with their sources."
        name = unused_keys[0].provider if unused_keys else "openai"
        if unused_keys:
            text += f" {unused_keys[0].variable} is set in the environment and not used."
        steps.append(NextStep(text, command=f"roadbed models add {name}"))
    return steps
