"""LangChain against a running server, as its user writes it: streamed, with tools, with structured output.

Run in the virtual environment of `install_llama.sh`; prints one JSON object of what came back, for `test_sdks.py`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Fee(BaseModel):
    """What an order costs."""

    amount: int
    currency: str


@tool  # type: ignore[untyped-decorator]
def fee_of(order: str) -> str:
    """The fee of an order."""
    return f"40 EUR for {order}"


def through(chat: Any) -> dict[str, Any]:
    """What one dialect's chat model gives."""
    streamed = "".join(chunk.text for chunk in chat.stream("Say something"))
    whole = chat.invoke("Say something")
    messages: list[Any] = [HumanMessage("Use the tool")]
    asked = chat.bind_tools([fee_of]).invoke(messages)
    messages.append(asked)
    for call in asked.tool_calls:
        messages.append(ToolMessage(fee_of.invoke(call["args"]), tool_call_id=call["id"]))
    pieces = list(chat.bind_tools([fee_of]).stream("Use the tool"))
    gathered = pieces[0]
    for piece in pieces[1:]:
        gathered = gathered + piece
    return {
        "streamed": streamed,
        "whole": whole.text,
        "tokens": whole.usage_metadata["output_tokens"],
        "calls": [[call["name"], call["args"]] for call in asked.tool_calls],
        "streamed_calls": [[call["name"], call["args"]] for call in gathered.tool_calls],
        "after_tool": chat.bind_tools([fee_of]).invoke(messages).text,
    }


def main() -> None:
    """All of it."""
    url, key = sys.argv[1:3]
    chat = ChatOpenAI(model="smart", base_url=f"{url}/v1", api_key=key)
    responses = ChatOpenAI(model="smart", base_url=f"{url}/v1", api_key=key, use_responses_api=True)
    anthropic = ChatAnthropic(model_name="smart", base_url=url, api_key=key, timeout=30, stop=None)
    fee = chat.with_structured_output(Fee, method="json_schema").invoke("As JSON")
    found = {
        "chat": through(chat),
        "responses": through(responses),
        "anthropic": through(anthropic),
        "structured": fee.model_dump(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
