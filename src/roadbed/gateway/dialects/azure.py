"""Azure OpenAI: OpenAI's chat completions under another address, with the key in a header of its own.

With the undated ``v1`` API the model in the body is the deployment's name; with a dated one the deployment stands in
the path and the date in the query. Answers are OpenAI's. The invariant: the address holds no key.
"""

from __future__ import annotations

from urllib.parse import quote

from roadbed.gateway.dialects.base import EncodedRequest
from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.types import ChatRequest

V1 = "/openai/v1"


class AzureOpenAI(OpenAIChat):
    """The dialect ``azure``."""

    name = "azure"

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for the deployment that the endpoint's ``model`` names."""
        encoded = super().encode(request, endpoint, stream=stream)
        version = endpoint.profile.api_version
        if version:
            path = f"/openai/deployments/{quote(endpoint.model, safe='')}{encoded.path}"
            path += f"?api-version={quote(version, safe='')}"
        else:
            path = encoded.path if endpoint.url.endswith(V1) else V1 + encoded.path
        headers = [(name, value) for name, value in encoded.headers if name != b"authorization"]
        if endpoint.key is not None:
            headers.append((b"api-key", endpoint.key.reveal().encode()))
        return EncodedRequest(path, tuple(headers), encoded.body, encoded.dropped)
