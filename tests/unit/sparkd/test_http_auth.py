"""Who may use REST: tokens as Spark's JWSFilter takes them, and source addresses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from ipaddress import ip_network
from typing import Any

import pytest
from http_faces import Client, FakeMaster, master_settings, serve

from sparkd.http.auth import BadToken, Gate, sign, verify
from sparkd.settings import RestSettings

KEY = b"Visit https://spark.apache.org to download Apache Spark."
#: From the documentation of JWSFilter: header {"alg":"HS256","typ":"JWT"}, payload {}, signed with KEY.
SPARKS_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.4EKWlOkobpaAPR0J4BE0cPQ-ZD1tRQKLZp1vtE7upPw"
NOW_S = 1_000_000.0


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(header: Any, claims: Any, key: bytes = KEY, digest: Any = hashlib.sha256) -> str:
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.new(key, signed.encode(), digest).digest())}"


HS256 = {"alg": "HS256"}


def test_the_token_of_sparks_own_documentation() -> None:
    verify(SPARKS_TOKEN, KEY, NOW_S)


@pytest.mark.parametrize("claims", [{}, {"exp": NOW_S + 1}, {"nbf": NOW_S}, {"exp": int(NOW_S) + 1, "sub": "x"}, {"exp": None}])
def test_good_tokens(claims: dict[str, Any]) -> None:
    verify(sign(claims, KEY), KEY, NOW_S)
    verify(token(HS256, claims), KEY, NOW_S)


BAD = {
    "empty": "",
    "one part": "abc",
    "two parts": ".".join(SPARKS_TOKEN.split(".")[:2]),
    "four parts": SPARKS_TOKEN + ".x",
    "no signature": ".".join(SPARKS_TOKEN.split(".")[:2]) + ".",
    "none": f"{part({'alg': 'none'})}.{part({})}.",
    "none, signed": token({"alg": "none"}, {}),
    "HS512": token({"alg": "HS512"}, {}, digest=hashlib.sha512),
    "HS512, signed with SHA-256": token({"alg": "HS512"}, {}),
    "algorithm in small letters": token({"alg": "hs256"}, {}),
    "no algorithm": token({}, {}),
    "algorithm is a list": token({"alg": ["HS256"]}, {}),
    "critical header": token({"alg": "HS256", "crit": ["b64"], "b64": False}, {}),
    "other key": token(HS256, {}, key=b"another key of thirty-two bytes."),
    "tampered claims": token(HS256, {}).replace(part({}), part({"a": 1})),
    "tampered header": part({"alg": "HS256", "a": 1}) + token(HS256, {})[len(part(HS256)) :],
    "signature cut": SPARKS_TOKEN[:-1],
    "signature padded": SPARKS_TOKEN + "=",
    "signature with stray bits": SPARKS_TOKEN[:-1] + "x",
    "standard base64": SPARKS_TOKEN.replace("-", "+"),
    "expired": token(HS256, {"exp": NOW_S}),
    "expired long ago": token(HS256, {"exp": 1}),
    "not yet": token(HS256, {"nbf": NOW_S + 1}),
    "exp is a string": token(HS256, {"exp": "never"}),
    "exp is true": token(HS256, {"exp": True}),
    "claims are a list": token(HS256, [1]),
    "claims are no JSON": token(HS256, b"{"),
    "header is no JSON": token(b"\xff\xfe", {}),
    "not ASCII": SPARKS_TOKEN.replace("e30", "é30"),
    "too long": "a" * 9000 + "." + SPARKS_TOKEN,
    "nested too deep": token(b"[" * 5000, {}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tokens(name: str) -> None:
    with pytest.raises(BadToken) as caught:
        verify(BAD[name], KEY, NOW_S)
    assert not BAD[name] or BAD[name] not in str(caught.value)


def test_without_a_key_no_token_is_good() -> None:
    with pytest.raises(BadToken):
        verify(sign({}, b""), b"", NOW_S)


@pytest.mark.parametrize(
    ("settings", "remote", "headers", "status"),
    [
        (RestSettings(), "127.0.0.1", {}, 403),
        (RestSettings(open_to_all=True), "127.0.0.1", {}, None),
        (RestSettings(open_to_all=True), "127.0.0.1", {"Origin": "http://evil.example"}, 403),
        (RestSettings(allowed=(ip_network("10.0.0.0/8"),)), "10.1.2.3", {}, None),
        (RestSettings(allowed=(ip_network("10.0.0.0/8"),)), "::ffff:10.1.2.3", {}, None),
        (RestSettings(allowed=(ip_network("10.0.0.0/8"),)), "11.1.2.3", {}, 403),
        (RestSettings(allowed=(ip_network("10.0.0.0/8"),)), "11.1.2.3", {"X-Forwarded-For": "10.1.2.3"}, 403),
        (RestSettings(allowed=(ip_network("10.0.0.0/8"),)), "10.1.2.3", {"Origin": "null"}, 403),
        (RestSettings(allowed=(ip_network("fe80::/10"),)), "fe80::1%eth0", {}, None),
        (RestSettings(allowed=(ip_network("::/0"),)), "10.1.2.3", {}, 403),
        (RestSettings(allowed=(ip_network("0.0.0.0/0"),)), None, {}, 403),
        (RestSettings(token_key=KEY), "127.0.0.1", {}, 401),
        (RestSettings(token_key=KEY), "127.0.0.1", {"Authorization": "Basic eDp5"}, 401),
        (RestSettings(token_key=KEY), "127.0.0.1", {"Authorization": "Bearer nonsense"}, 403),
        (RestSettings(token_key=KEY), "127.0.0.1", {"Authorization": f"Bearer {SPARKS_TOKEN}"}, None),
        (RestSettings(token_key=KEY), "127.0.0.1", {"Authorization": f"bearer {SPARKS_TOKEN}"}, None),
        (RestSettings(token_key=KEY), "127.0.0.1", {"Authorization": f"Bearer {SPARKS_TOKEN}", "Origin": "http://x"}, None),
        (RestSettings(token_key=KEY, allowed=(ip_network("127.0.0.1/32"),)), "127.0.0.1", {}, None),
        # A wrong token is a mistake that should be told, also from where none is needed.
        (RestSettings(token_key=KEY, allowed=(ip_network("127.0.0.1/32"),)), "127.0.0.1", {"Authorization": "Bearer x"}, 403),
    ],
)
def test_gate(settings: RestSettings, remote: str | None, headers: dict[str, str], status: int | None) -> None:
    refusal = Gate(settings, lambda: NOW_S).check(remote, headers)
    assert (refusal.status if refusal else None) == status


def test_over_http(caplog: pytest.LogCaptureFixture) -> None:
    face = FakeMaster(settings=master_settings(open_to_all=False, token_key=KEY))
    good = {"Authorization": f"Bearer {SPARKS_TOKEN}"}

    async def talk(client: Client) -> None:
        for path, action in (("/v1/submissions/status/x", "ErrorResponse"), ("/v2", "ErrorResponse"), ("/sparkd/v1/leader", None)):
            reply = await client.rest(path)
            assert (reply.status, reply.headers["WWW-Authenticate"], reply.json.get("action")) == (401, "Bearer", action)
            assert (await client.rest(path, headers={"Authorization": "Bearer secret.token.x"})).status == 403
        assert (await client.rest("/sparkd/v1/leader", headers=good)).status == 200
        assert (await client.rest("/v1/submissions/status/x", headers=good)).status == 200
        assert (await client.rest("/v1/submissions/readyz")).status == 200  # for load balancers, as much as the web port says
        # Refused before a body is read.
        assert (await client.rest("/v1/submissions/create", "POST", data=b"x" * 100_000)).status == 401
        assert (await client.web("/json/")).status == 200

    with caplog.at_level(logging.INFO):
        serve(face, talk)
    assert "event=rest_refused status=401" in caplog.text
    assert "secret.token" not in caplog.text and SPARKS_TOKEN not in caplog.text
