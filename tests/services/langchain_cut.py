"""LangChain while an engine dies under its stream, for each contract of a route and each dialect that it speaks.

Run in the virtual environment of `install_llama.sh`; prints one JSON object of what came, for `test_sdks_cut.py`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

PROMPT = "Tell the story"


def watched(chat: Any) -> dict[str, Any]:
    """What a person who watches the stream sees, and how it ends."""
    text = error = ""
    metadata: dict[str, Any] = {}
    try:
        for chunk in chat.stream(PROMPT):
            text += chunk.text
            metadata |= chunk.response_metadata
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    finish = metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("status") or ""
    return {"text": text, "error": error, "finish": finish}


def main() -> None:
    """Each route under each dialect."""
    url, key = sys.argv[1:3]
    found: dict[str, Any] = {}
    for contract in ("error", "continue", "restart"):

        def made(dialect: str, contract: str = contract) -> Any:
            route = f"{contract}-langchain-{dialect}"
            if dialect == "anthropic":
                return ChatAnthropic(model_name=route, base_url=url, api_key=key, timeout=30, stop=None, max_retries=0)
            is_responses = dialect == "responses"
            return ChatOpenAI(
                model=route, base_url=f"{url}/v1", api_key=key, use_responses_api=is_responses, max_retries=0
            )

        for dialect in ("chat", "responses", "anthropic"):
            found[f"{contract}-{dialect}"] = {**watched(made(dialect)), "whole": made(dialect).invoke(PROMPT).text}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
