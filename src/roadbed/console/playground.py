"""Playground: one prompt to several routes side by side, each with its rung, latencies, tokens and cost.

With scripts each route streams into a column of its own; without them the form answers with a page of whole answers.
Each is a call like any other: guarded, recorded, paid for. The invariant: only routes that the caller may use, and at
most `ROUTES_MAX` at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roadbed.console.services import TriedRoute
from roadbed.console.visits import Console, Page, Visit
from roadbed.kernel.errors import InvalidRequest
from roadbed.wire.sse import encode_event

ROUTES_MAX = 4
PROMPT_CHARACTERS_MAX = 20_000


class PromptInvalid(InvalidRequest):
    """The playground's form names no route, too many or one that the key may not use, or its prompt is unfit."""

    code = "console.prompt_invalid"


def playground_routes(console: Console) -> list[Route]:
    """The routes of the page."""

    async def stream(visit: Visit) -> Response:
        prompt, (route, *_) = checked(visit)

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
        *console.action("/console/playground/stream", stream, is_audited=True),
    ]


async def show(visit: Visit) -> Page:
    """The form."""
    routes = usable_routes(visit)
    return _page(visit, chosen=routes[:2])


async def run(visit: Visit) -> Page:
    """All answers, whole."""
    try:
        prompt, routes = checked(visit)
    except PromptInvalid as error:
        return _page(visit, chosen=chosen_of(visit), prompt=visit.text("prompt"), error=error)
    tries = await asyncio.gather(*(_whole(visit, route, prompt) for route in routes))
    return _page(visit, chosen=routes, prompt=prompt, tries=tries)


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
) -> Page:
    routes = usable_routes(visit)
    context = {
        "routes": routes,
        "routes_max": ROUTES_MAX,
        "chosen": chosen,
        "prompt": prompt,
        "prompt_characters_max": PROMPT_CHARACTERS_MAX,
        "tries": tries or [],
        "error": error,
    }
    status = error.http_status if error is not None else 200
    return Page("playground.html", "Playground", context, {"routes": routes}, status=status)
