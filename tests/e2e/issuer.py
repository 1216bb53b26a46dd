"""An OpenID provider over HTTP in a thread: it signs in whom the test says, and checks what a client must send."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT_ID = "roadbed-tests"
CLIENT_SECRET = "issuer-knows-this"


class Issuer:
    """``claims`` go into the next ID token, ``answers`` into the next answer to the browser."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.claims: dict[str, Any] = {}
        self.answers: dict[str, str] = {}
        self.asked: dict[str, dict[str, str]] = {}
        self.forgets_used = False  # whether a code is taken again, which no issuer should do
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.get(self)

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                status, body = outer.token({name: values[0] for name, values in parse_qs(form).items()})
                outer.send(self, status, json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, location: str = "") -> None:
        """One response."""
        handler.send_response(status)
        if location:
            handler.send_header("location", location)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        """The metadata, the keys, and the page where a person says yes."""
        parts = urlsplit(handler.path)
        if parts.path == "/.well-known/openid-configuration":
            metadata = {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "authorization_response_iss_parameter_supported": True,
            }
            self.send(handler, 200, json.dumps(metadata).encode())
        elif parts.path == "/keys":
            self.send(handler, 200, json.dumps(KeySet([self.key]).as_dict(private=False)).encode())
        else:
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            code = f"code-{len(self.asked)}"
            self.asked[code] = asked
            answer = {"code": code, "state": asked["state"], "iss": self.url, **self.answers}
            self.send(handler, 302, b"", f"{asked['redirect_uri']}?{urlencode(answer)}")

    def token(self, form: dict[str, str]) -> tuple[int, Any]:
        """An ID token for a code, once, to the client that can prove that it asked."""
        code = form.get("code", "")
        asked = self.asked.get(code) if self.forgets_used else self.asked.pop(code, None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        if (
            asked is None
            or form.get("client_secret") != CLIENT_SECRET
            or form.get("redirect_uri") != asked["redirect_uri"]
            or asked.get("code_challenge_method") != "S256"
            or proof.decode() != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        return 200, {"token_type": "Bearer", "id_token": self.signed(nonce=asked["nonce"], **self.claims)}

    def signed(self, typ: str = "JWT", **claims: Any) -> str:
        """A token of this issuer."""
        now = int(time.time())
        given = {"iss": self.url, "aud": CLIENT_ID, "sub": "anna", "exp": now + 300, "iat": now, **claims}
        kept = {name: value for name, value in given.items() if value is not None}
        return jwt.encode({"alg": "RS256", "typ": typ, "kid": "one"}, kept, self.key)
