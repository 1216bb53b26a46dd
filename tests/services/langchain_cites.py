"""An app's citations as LangChain's user gets them, in each dialect that it speaks.

Run in the virtual environment of `install_llama.sh`; prints one JSON object of what came, for `test_sdks.py`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

QUESTION = "What does a rush order cost?"


def cited(message: Any) -> list[str]:
    """The titles that the message's blocks cite."""
    blocks = [block for block in message.content_blocks if block["type"] == "text"]
    return [
        found.get("title") or found.get("cited_text", "") for block in blocks for found in block.get("annotations", ())
    ]


def through(chat: Any) -> dict[str, Any]:
    """Whole and streamed."""
    whole = chat.invoke(QUESTION)
    gathered: Any = None
    for chunk in chat.stream(QUESTION):
        gathered = chunk if gathered is None else gathered + chunk
    return {"text": whole.text, "streamed": gathered.text, "cited": cited(whole), "streamed_cited": cited(gathered)}


def main() -> None:
    """Each dialect."""
    url, key = sys.argv[1:3]
    made = {
        "chat": ChatOpenAI(model="helpdesk", base_url=f"{url}/v1", api_key=key),
        "responses": ChatOpenAI(model="helpdesk", base_url=f"{url}/v1", api_key=key, use_responses_api=True),
        "anthropic": ChatAnthropic(model_name="helpdesk", base_url=url, api_key=key, timeout=30, stop=None),
    }
    print(json.dumps({name: through(chat) for name, chat in made.items()}))


if __name__ == "__main__":
    main()
