"""The way through the guard: every text of a request is masked, nothing else of it changes, and reasoning comes back
byte for byte or not at all.
"""

from __future__ import annotations

from typing import Any

import msgspec

from roadbed.gateway.masking import Unmasker, guard_request
from roadbed.gateway.types import (
    ChatRequest,
    Cited,
    Event,
    Finished,
    ImagePart,
    JsonSchema,
    Message,
    OtherPart,
    ProviderBlock,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    TextEnded,
    TextPart,
    Tool,
    ToolCall,
)
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PUBLIC

from .conftest import CALLER

ADDRESS = "ada@example.com"


def request_saying(text: str) -> ChatRequest:
    """A request with ``text`` in every place that holds a caller's words."""
    hints = {"cache_control": {"type": "ephemeral"}, "note": text}
    return ChatRequest(
        messages=(
            Message("system", (TextPart(text, hints),)),
            Message("user", (TextPart(text), ImagePart("https://x.example/a.png", "low", hints)), text),
            Message("assistant", text, tool_calls=(ToolCall("t", "a", f'{{"x":"{text}"}}', hints),)),
            Message("tool", text, tool_call_id="t", is_error=True, hints=hints),
        ),
        tools=(Tool("a", text, {"description": text}, True, hints),),
        tool_choice="auto",
        parallel_tool_calls=False,
        max_tokens=5,
        temperature=0.5,
        top_p=0.5,
        stop=(text,),
        response_format=JsonSchema({"description": text}, "n", True),
        passthrough={"metadata": {"user_id": text}},
        passthrough_dialect="anthropic",
    )


def test_what_needs_no_mask_goes_through_unchanged(guard: Guard) -> None:
    parts = (
        ReasoningPart("anthropic", "Hm.", "sig"),
        ReasoningPart("anthropic", "", "data", is_redacted=True),
        OtherPart("anthropic", {"type": "document"}),
    )
    request = request_saying("harmless")
    request = msgspec.structs.replace(request, messages=(*request.messages, Message("assistant", parts)))
    guarded = guard_request(guard, request, PUBLIC, is_local=False, vault=Vault())
    assert (guarded.request, guarded.masked_count) == (request, 0)


def test_no_text_of_a_request_passes_unmasked(guard: Guard) -> None:
    vault = Vault()
    guarded = guard_request(guard, request_saying(f"Write to {ADDRESS}"), PUBLIC, is_local=False, vault=vault)
    said = msgspec.json.encode(guarded.request).decode()
    assert ADDRESS not in said
    assert guarded.masked_count == said.count("EMAIL_") == 16


def test_reasoning_that_would_have_to_change_is_left_out(guard: Guard) -> None:
    parts = (ReasoningPart("anthropic", f"They are {ADDRESS}", "sig"), TextPart("x"))
    request = ChatRequest((Message("assistant", parts),))
    guarded = guard_request(guard, request, PUBLIC, is_local=False, vault=Vault())
    assert guarded.request.messages[0].content == (TextPart("x"),)


def restored(guard: Guard, vault: Vault, *events: Event) -> list[Any]:
    unmasker = Unmasker(guard, vault, CALLER)
    return [shown for event in events for shown in unmasker.feed(event)]


def test_what_is_held_back_of_reasoning_comes_before_its_seal(guard: Guard) -> None:
    vault = Vault()
    token = vault.token_for("email", ADDRESS)
    sealed = ReasoningSealed(ReasoningPart("anthropic", f"Ask {token}", "sig"))
    given: list[Event] = [
        ReasoningDelta("Ask "),
        ReasoningDelta(token),
        sealed,
        TextDelta("Hi"),
        Finished("stop", token),
    ]
    shown = restored(guard, vault, *given)
    assert "".join(event.text for event in shown if isinstance(event, ReasoningDelta)) == f"Ask {ADDRESS}"
    kinds = [type(event) for event in shown]
    assert kinds.index(ReasoningSealed) == len(kinds) - 3
    assert shown[-3:] == [sealed, TextDelta("Hi"), Finished("stop", ADDRESS)]


def test_what_is_cited_is_restored_and_a_text_is_whole_before_its_block_ends(guard: Guard) -> None:
    vault = Vault()
    token = vault.token_for("email", ADDRESS)
    block = ProviderBlock("anthropic", {"type": "server_tool_use", "input": {"query": token}})
    given: list[Event] = [
        TextDelta(f"Ask {token[:3]}"),
        TextDelta(token[3:]),
        Cited("anthropic", {"type": "char_location", "cited_text": f"by {token}", "document_index": 0}),
        TextEnded(),
        TextDelta("Now "),
        block,
    ]
    shown = restored(guard, vault, *given)
    ended = shown.index(TextEnded())
    assert "".join(event.text for event in shown[:ended] if isinstance(event, TextDelta)) == f"Ask {ADDRESS}"
    assert shown[-1] == block, "it comes back in the next turn, where nothing masks it"
    (cited,) = [event.fields for event in shown if isinstance(event, Cited)]
    assert cited == {"type": "char_location", "cited_text": f"by {ADDRESS}", "document_index": 0}
