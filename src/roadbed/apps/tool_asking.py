"""Asking a model with tools until it answers: the part of a turn before any text of an answer is shown.

Each round is taken whole, so that a stream that breaks is recovered by the next endpoint, and what a model says before
it calls is never mistaken for its answer. Where no endpoint of the route takes tools, the copilot goes on without them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from roadbed.apps.answer_limit import limited, whole_sentences
from roadbed.apps.checked_answer import CheckedAnswer
from roadbed.apps.egress import TurnData
from roadbed.apps.sentence_stream import SentenceStream
from roadbed.apps.tool_offer import Offer
from roadbed.apps.tool_rounds import ToolRounds
from roadbed.apps.types import AnswerEvent, Progress, Rung
from roadbed.gateway.errors import ContextTooLong, RejectedByEndpoint, UnsupportedFeature
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Answer, Call, Message
from roadbed.kernel.label import PUBLIC, Label, join_labels

WITHOUT_TOOLS: dict[str, Any] = {
    "tools": (),
    "tool_choice": None,
    "parallel_tool_calls": None,
    "response_format": None,
}


def data_of(messages: Sequence[Message], label: Label, passages: Sequence[object], offer: Offer) -> TurnData:
    """What is known of a turn's data before the first request. ``label`` is that of the shown passages.

    An earlier answer may hold whatever the turn before it read, so it counts as others' text with the tools' labels.
    """
    data = TurnData(typed=tuple(message.text() for message in messages if message.role == "user"))
    if passages:
        data = data.reading(label)
    if any(message.role == "assistant" for message in messages):
        data = data.reading(join_labels(tool.label for tool in offer.tools.values()))
    return data.reading(PUBLIC) if offer.is_of_others else data


@dataclass(slots=True)
class ToolAsking:
    """One turn's rounds. ``answer`` is the model's; None when it gave none while it might still ask for tools."""

    gateway: Gateway
    route: Route
    talk: ToolRounds
    prompt: tuple[Message, ...]
    label: Label
    reserve_s: float
    answer_tokens_max: int | None
    answer: Answer | None = None
    rungs: list[Rung] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    takes_tools: bool = True

    async def run(self) -> AsyncGenerator[Progress, None]:
        """Ask and call in turns; says what is being asked while a person waits."""
        turn, talk = self.talk.turn, self.talk
        route = replace(self.route, cache=None)
        request = limited(turn.request, self.answer_tokens_max)
        request = structs.replace(request, **{**WITHOUT_TOOLS, "tools": talk.offer.wire_tools()})
        while not talk.is_over:
            call = Call(
                turn.principal, turn.deadline.reserving(self.reserve_s), self.label.join(talk.data.label), turn.trace
            )
            asked = structs.replace(request, messages=(*self.prompt, *talk.exchange))
            try:
                answer, outcome = await self.gateway.complete(route, asked, call)
            except ContextTooLong:
                raise
            except (UnsupportedFeature, RejectedByEndpoint) as error:
                self.missing.append(f"tools with model {route.name}: {error.code}")
                self.takes_tools = False
                return
            self.rungs.append(outcome.rung)
            self.missing += outcome.missing
            if not answer.tool_calls:
                self.answer = answer
                return
            sources = talk.sources_of(answer.tool_calls)
            if sources:
                yield Progress(f"asking {', '.join(sources)} …")
            await talk.run(answer)


async def released(answer: Answer, checked: CheckedAnswer) -> AsyncGenerator[AnswerEvent, None]:
    """A whole answer, sentence by sentence."""
    stream = SentenceStream()
    checked.finish_reason = answer.finish_reason or "stop"
    fed = stream.feed(answer.text or answer.refusal)
    for sentence in (*fed, *whole_sentences(stream.finish(), checked.finish_reason)):
        for event in checked.release(sentence):
            yield event
