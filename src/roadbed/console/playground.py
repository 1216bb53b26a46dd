"""Playground: one prompt to several routes side by side, each with its rung, latencies, tokens and cost.

With scripts each route streams into a column of its own; without them the form answers with a page of whole answers.
Each is a call like any other: guarded, recorded, paid for. Made-up data is offered first, and a prompt that holds
somebody's data is sent only when that is said. The invariant: only routes that the caller may use, and at most
`ROUTES_MAX` at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roadbed.console.services import TriedRoute
from roadbed.console.visits import Console, Page, Visit
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from roadbed.wire.sse import encode_event

ROUTES_MAX = 4
PROMPT_CHARACTERS_MAX = 20_000


class PromptInvalid(InvalidRequest):
    """The playground's form names no route, too many or one that the key may not use, or its prompt is unfit."""

    code = "console.prompt_invalid"


class PromptHoldsData(InvalidRequest):
    """The prompt holds personal data or a secret, and it was not said that it is to be sent all the same."""

    code = "console.prompt_holds_data"
    http_status = 422
    hint = "put made-up values in its place, or say that it is to be sent as it is"


def playground_routes(console: Console) -> list[Route]:
    """The routes of the page."""

    async def stream(visit: Visit) -> Response:
        prompt, (route, *_) = checked(visit)
        if held := held_by(visit, prompt):
            raise PromptHoldsData(f"the prompt holds {held}")

        async def events() -> AsyncIterator[bytes]:
            async with aclosing(visit.services.try_route(route, prompt, visit.principal)) as steps:
                async for step in steps:
                    if isinstance(step, str):
                        yield encode_event(msgspec.json.encode({"text": step}), b"text")
                    else:
                        context = {"tried": step, "is_auditor": visit.is_auditor}
                        html = console.templates.render("try.html", context)
                        yield encode_event(msgspec.json.encode({"html": html}), b"done")

        headers = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    return [
        *console.page("/console/playground", show),
        *console.action("/console/playground", run, is_audited=True),
        *console.action("/console/playground/sample", sample, is_audited=True),
        *console.action("/console/playground/replace", replace),
        *console.action("/console/playground/stream", stream, is_audited=True),
    ]


async def show(visit: Visit) -> Page:
    """The form."""
    routes = usable_routes(visit)
    return _page(visit, chosen=routes[:2])


async def run(visit: Visit) -> Page:
    """The answers of the chosen routes to one prompt, side by side, when all of them are whole."""
    try:
        prompt, routes = checked(visit)
    except PromptInvalid as error:
        return _page(visit, chosen=chosen_of(visit), prompt=visit.text("prompt"), error=error)
    if held := held_by(visit, prompt):
        return _page(visit, chosen=routes, prompt=prompt, held=held)
    tries = await asyncio.gather(*(_whole(visit, route, prompt) for route in routes))
    return _page(visit, chosen=routes, prompt=prompt, tries=tries)


async def sample(visit: Visit) -> Page:
    """The form with made-up data of a source behind the prompt."""
    trial, prompt, error = visit.services.trial, visit.text("prompt").strip(), None
    try:
        is_clean = not held_by(visit, prompt)
        made = await trial.sample(visit.text("source"), visit.principal) if trial is not None else ""
        prompt = f"{prompt}\n\n{made}".strip()[:PROMPT_CHARACTERS_MAX]
        return _page(visit, chosen=chosen_of(visit), prompt=prompt, made=_digest(prompt) if is_clean else "")
    except (NotFound, Unavailable, DeadlineExceeded) as failed:
        error = PromptInvalid(failed.message, hint=failed.hint)
    return _page(visit, chosen=chosen_of(visit), prompt=prompt, error=error)


async def replace(visit: Visit) -> Page:
    """The form with made-up values in the place of real ones."""
    trial, prompt = visit.services.trial, visit.text("prompt")[:PROMPT_CHARACTERS_MAX]
    replaced = await asyncio.to_thread(trial.replaced, prompt) if trial is not None else prompt
    return _page(visit, chosen=chosen_of(visit), prompt=replaced, made=_digest(replaced))


def held_by(visit: Visit, prompt: str) -> str:
    """What a prompt holds of real people, in words; empty when nothing, or when it is to be sent as it is.

    What was made up here is not asked about while it stands as it was made.
    """
    trial = visit.services.trial
    if trial is None or visit.text("as_is") or visit.text("made") == _digest(prompt):
        return ""
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(trial.found(prompt).items()))


def _digest(prompt: str) -> str:
    return hashlib.sha256(" ".join(prompt.split()).encode()).hexdigest()


async def _whole(visit: Visit, route: str, prompt: str) -> TriedRoute:
    async with aclosing(visit.services.try_route(route, prompt, visit.principal)) as steps:
        async for step in steps:
            if not isinstance(step, str):
                return step
    raise AssertionError("a try without an end")


def usable_routes(visit: Visit) -> list[str]:
    """The routes that the caller may use."""
    services = visit.services
    return [name for name in sorted(services.gateway.routes) if services.may_use(visit.principal, name)]


def chosen_of(visit: Visit) -> list[str]:
    """The routes that the form names, each once."""
    return list(dict.fromkeys(name for name in visit.form.getlist("routes") if isinstance(name, str)))


def checked(visit: Visit) -> tuple[str, list[str]]:
    """The prompt and the routes of the form. `PromptInvalid`."""
    prompt, routes = visit.text("prompt").strip(), chosen_of(visit)
    usable = usable_routes(visit)
    if not routes or len(routes) > ROUTES_MAX or any(route not in usable for route in routes):
        raise PromptInvalid(f"choose 1 to {ROUTES_MAX} of the routes")
    if not prompt:
        raise PromptInvalid("write a prompt first")
    if len(prompt) > PROMPT_CHARACTERS_MAX:
        raise PromptInvalid(f"a prompt has at most {PROMPT_CHARACTERS_MAX:,} characters")
    return prompt, routes


def _page(
    visit: Visit,
    *,
    chosen: list[str],
    prompt: str = "",
    tries: list[TriedRoute] | None = None,
    error: PromptInvalid | None = None,
    held: str = "",
    made: str = "",
) -> Page:
    routes, trial = usable_routes(visit), visit.services.trial
    context = {
        "routes": routes,
        "routes_max": ROUTES_MAX,
        "chosen": chosen,
        "prompt": prompt,
        "prompt_characters_max": PROMPT_CHARACTERS_MAX,
        "tries": tries or [],
        "error": error,
        "held": held,
        "made": made,
        "sources": trial.sources(visit.principal) if trial is not None else [],
    }
    status = error.http_status if error is not None else PromptHoldsData.http_status if held else 200
    return Page("playground.html", "Playground", context, {"routes": routes}, status=status)
