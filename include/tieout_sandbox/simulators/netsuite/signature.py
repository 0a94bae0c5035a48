"""Whether a request carries a token's OAuth 1 signature (HMAC-SHA256), each nonce taken once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from types import SimpleNamespace
from urllib.parse import unquote

from oauthlib.oauth1.rfc5849 import signature
from starlette.requests import Request

REALM = "1234567_SB1"


@dataclass
class OAuthToken:
    """An integration's consumer and the token of a user in it."""

    consumer_key: str
    consumer_secret: str
    token_id: str
    token_secret: str
    _nonces: set[str] = field(default_factory=set)

    @classmethod
    def new(cls) -> OAuthToken:
        """Random credentials."""
        return cls(*(secrets.token_hex(32) for _ in range(4)))

    def renew(self) -> None:
        """Another token: requests signed with the old one are refused."""
        self.token_id, self.token_secret = secrets.token_hex(32), secrets.token_hex(32)

    def signed(self, request: Request) -> bool:
        """Whether this request was signed with this token, and not sent before."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme != "OAuth":
            return False
        given = {k: unquote(v.strip('"')) for k, _, v in (part.strip().partition("=") for part in text.split(","))}
        if (
            given.get("realm") != REALM
            or given.get("oauth_consumer_key") != self.consumer_key
            or given.get("oauth_token") != self.token_id
            or given.get("oauth_signature_method") != "HMAC-SHA256"
            or given.get("oauth_nonce", "") in self._nonces
        ):
            return False
        self._nonces.add(given.get("oauth_nonce", ""))
        parameters = signature.collect_parameters(
            uri_query=request.url.query, headers={"Authorization": request.headers["authorization"]}, body=None
        )
        text = signature.signature_base_string(
            request.method,
            signature.base_string_uri(str(request.url.replace(query=""))),
            signature.normalize_parameters(parameters),
        )
        client = SimpleNamespace(client_secret=self.consumer_secret, resource_owner_secret=self.token_secret)
        return signature.sign_hmac_sha256_with_client(text, client) == given.get("oauth_signature")
