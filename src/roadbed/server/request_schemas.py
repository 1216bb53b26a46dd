"""The JSON Schemas of the bodies that callers' dialects have, for the OpenAPI document: what `openapi.py` cannot take
from a struct, because a codec reads them.

Only data. The invariant, held by ``tests/docs``: the fields named here are those that the codecs know.
"""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final[dict[str, Any]] = {"type": "string"}
_MODEL: Final[dict[str, Any]] = {"type": "string", "description": "an app or a route; GET /v1/models lists them"}

CHAT_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "messages"],
    "description": "OpenAI's chat completions request. Fields that are not listed are passed to endpoints that speak "
    "the same dialect, and ignored by apps.",
    "properties": {
        "model": {"type": "string", "description": "an app or a route; GET /v1/models lists them"},
        "messages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                    "content": {"description": "text, or a list of content parts"},
                },
            },
        },
        "stream": {"type": "boolean", "description": "server-sent events; the last one before [DONE] has `roadbed`"},
        "stream_options": {"type": "object", "description": "{include_usage: true} adds a usage event"},
        "tools": {"type": "array", "description": "routes only; apps do not pass tools on"},
        "tool_choice": {"description": "routes only"},
        "parallel_tool_calls": {"type": "boolean", "description": "routes only"},
        "max_tokens": {"type": "integer"},
        "max_completion_tokens": {"type": "integer"},
        "temperature": {"type": "number"},
        "top_p": {"type": "number"},
        "stop": {"description": "a string or a list of strings"},
        "response_format": {"type": "object"},
        "n": {"type": "integer", "description": "1 only"},
        "logprobs": {"type": "boolean", "description": "not supported"},
        "top_logprobs": {"type": "integer", "description": "not supported"},
    },
    "additionalProperties": True,
}

RESPONSES_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "input"],
    "description": "OpenAI's Responses request. Nothing is kept: `store` is false when it is left out, and what needs "
    "an earlier response is refused. Fields that are not listed are passed to endpoints that speak the same dialect.",
    "properties": {
        "model": _MODEL,
        "input": {"description": "text, or a list of items"},
        "instructions": {"type": "string"},
        "stream": {"type": "boolean", "description": "server-sent events; the last one holds `response.roadbed`"},
        "stream_options": {"type": "object"},
        "tools": {"type": "array", "description": "functions only; routes only"},
        "tool_choice": {"description": "routes only"},
        "parallel_tool_calls": {"type": "boolean", "description": "routes only"},
        "max_output_tokens": {"type": "integer"},
        "temperature": {"type": "number"},
        "top_p": {"type": "number"},
        "text": {"type": "object", "description": "{format, verbosity}"},
        "reasoning": {"type": "object", "description": "{effort, summary}"},
        "include": {"type": "array", "description": "`reasoning.encrypted_content` is given where there is any"},
        "metadata": {"type": "object"},
        "user": {"type": "string"},
        "truncation": {"description": "auto is for endpoints of the same dialect"},
        "store": {"type": "boolean", "description": "false only"},
        "background": {"type": "boolean", "description": "not supported"},
        "previous_response_id": {"type": "string", "description": "not supported: send the items again"},
        "conversation": {"description": "not supported: send the items again"},
        "top_logprobs": {"type": "integer", "description": "not supported"},
    },
    "additionalProperties": True,
}
COUNT_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "messages"],
    "description": "Anthropic's Messages request. The header `anthropic-version` is accepted and not needed. Fields "
    "that are not listed are passed to endpoints that speak the same dialect.",
    "properties": {
        "model": _MODEL,
        "messages": {"type": "array", "items": {"type": "object", "required": ["role", "content"]}},
        "max_tokens": {"type": "integer"},
        "system": {"description": "text, or a list of text blocks"},
        "stream": {"type": "boolean", "description": "server-sent events; `message_delta` has `roadbed`"},
        "stop_sequences": {"type": "array"},
        "temperature": {"type": "number"},
        "top_p": {"type": "number"},
        "top_k": {"type": "integer"},
        "tools": {"type": "array", "description": "routes only"},
        "tool_choice": {"type": "object", "description": "routes only"},
        "output_config": {"type": "object", "description": "{format, effort}"},
        "thinking": {"type": "object"},
        "metadata": {"type": "object"},
        "service_tier": {"type": "string"},
        "cache_control": {"type": "object"},
    },
    "additionalProperties": True,
}
MESSAGES_REQUEST: Final[dict[str, Any]] = {**COUNT_REQUEST, "required": ["model", "messages", "max_tokens"]}
EMBEDDINGS_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "input"],
    "description": "OpenAI's embeddings request, with Cohere's `input_type`. Other fields are left out and named in "
    "`x-roadbed-dropped`.",
    "properties": {
        "model": {"type": "string", "description": "`minilm-l6`, or a route of the task embeddings"},
        "input": {"description": "a text, texts, tokens or lists of tokens"},
        "encoding_format": {"enum": ["float", "base64"]},
        "dimensions": {"type": "integer"},
        "user": {"type": "string"},
        "input_type": {"enum": ["search_document", "search_query", "classification", "clustering"]},
    },
    "additionalProperties": True,
}
RERANK_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["model", "query", "documents"],
    "description": "Cohere's and Jina's rerank request. Other fields are left out and named in `x-roadbed-dropped`.",
    "properties": {
        "model": {"type": "string", "description": "a route of the task rerank"},
        "query": {"type": "string"},
        "documents": {"type": "array", "description": "texts, or objects with `text`"},
        "top_n": {"type": "integer"},
        "return_documents": {"type": "boolean"},
        "max_tokens_per_doc": {"type": "integer"},
        "rank_fields": {"type": "array", "description": "[text] only"},
    },
    "additionalProperties": True,
}

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": _TEXT,
        "retryable": {"type": "boolean"},
        "hint": _TEXT,
    },
}
OPENAI_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "description": "OpenAI's error object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ANTHROPIC_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Anthropic's error object",
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "object", "properties": {"type": _TEXT, "message": _TEXT, "code": _TEXT}},
        "request_id": {"type": ["string", "null"]},
    },
}
