"""Attacks by what is no proper HTTP, or not quite: ends that can be read in two ways, heads without measure, addresses
that mean others. They come with a right token, so that nothing but this can stop them.
"""

from __future__ import annotations

from typing import Any

from tests.guarantees.attacks import ALICE, Attack, get
from tests.guarantees.raw import Heard, request
from tests.guarantees.target import HOST, Target, bearer

# What is no proper HTTP -----------------------------------------------------------------------------------------------

LIVE = get("/health/live", ALICE)
SMUGGLED = get("/health/tokens", ALICE)
"""Must not be answered where it stands inside of another request."""


def post(*headers: Any, body: bytes = b"") -> bytes:
    return request("POST", "/mcp", ALICE, *headers, body=body, host=HOST)


def alone(heard: Heard) -> bool:
    """What was smuggled has not been taken for a request."""
    return all(b'"claude"' not in response.body for response in heard.responses)


def framed(name: str, *headers: str, body: bytes = SMUGGLED, answer: str = "400 closed") -> Attack:
    """A request whose end can be read in two ways."""
    return Attack(name, answer, [post(*headers), body], check=alone)


def _unasked(target: Target) -> str:
    """`Expect: 100-continue`: nobody asks a stranger to go on."""
    with target.talk() as talk:
        talk.send(request("POST", "/mcp", "Content-Length: 5", "Expect: 100-continue", host=HOST))
        heard = talk.hear(1)
    return " ".join(map(str, [*heard.interim, *heard.statuses]))


WIRE = [
    framed(
        "smuggling: a length and chunks",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        body=b"0\r\n\r\n" + SMUGGLED,
    ),
    framed(
        "smuggling: chunks and a length",
        "Transfer-Encoding: chunked",
        "Content-Length: 5",
        body=b"0\r\n\r\n" + SMUGGLED,
    ),
    framed("smuggling: two lengths", "Content-Length: 0", "Content-Length: 5"),
    framed("smuggling: a length with a sign", "Content-Length: +5"),
    framed("smuggling: a length below zero", "Content-Length: -5"),
    framed("smuggling: a length in hex", "Content-Length: 0x5"),
    framed("smuggling: a length of 30 digits", "Content-Length: " + "9" * 30),
    framed("smuggling: a length before a space", "Content-Length : 5"),
    framed("smuggling: chunks by another name", "Transfer-Encoding: xchunked"),
    framed("smuggling: chunks and something else", "Transfer-Encoding: chunked, identity"),
    framed("smuggling: packed chunks", "Transfer-Encoding: gzip, chunked"),
    framed("smuggling: chunks told twice", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    framed("smuggling: chunks after a strange blank", "Transfer-Encoding: \x0bchunked"),
    framed("a chunk whose size is none", "Transfer-Encoding: chunked", body=b"xyz\r\n"),
    framed("a chunk whose size has a sign", "Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
    framed("a chunk of 20 digits", "Transfer-Encoding: chunked", body=b"f" * 21 + b"\r\n"),
    framed("a chunk that is longer than it says", "Transfer-Encoding: chunked", body=b"1\r\nxx\r\n0\r\n\r\n"),
    framed("a chunk with a remark of 1 MB", "Transfer-Encoding: chunked", body=b"1;" + b"x" * (1 << 20)),
    framed(
        "after the last chunk, 1 MB of headers", "Transfer-Encoding: chunked", body=b"0\r\n" + b"X: y\r\n" * 180_000
    ),
    Attack("a request in a stranger's body", "401", [request("POST", "/mcp", body=SMUGGLED, host=HOST)], check=alone),
    Attack(
        "a request in a body where none belongs",
        "200",
        [request("GET", "/health/live", ALICE, body=SMUGGLED, host=HOST)],
        check=alone,
    ),
    Attack("100 requests at once", " ".join(["200"] * 100), [LIVE * 100], count=100),
    Attack("a stranger's requests between", "401 200 401 200", [(get() + LIVE) * 2], count=4),
    Attack(
        "a request after the last one",
        "200 closed",
        [get("/health/live", ALICE, ("Connection", "close")) + SMUGGLED],
        check=alone,
    ),
    Attack("only heads", "200 200", [get("/health/live", ALICE, method="HEAD") * 2], count=2, heads=["HEAD", "HEAD"]),
    Attack("3,000 headers", "200", [get("/health/live", ALICE, *[("X", "y")] * 3_000)]),
    Attack("a million headers", "400 closed", [get("/health/live", ALICE, *[("X", "y")] * 1_000_000)]),
    Attack("a header of 1 MB", "400 closed", [get("/health/live", ALICE, ("X", "y" * (1 << 20)))]),
    Attack("a header's name of 1 MB", "400 closed", [get("/health/live", ALICE, ("X" * (1 << 20), "y"))]),
    Attack("an address of 1 MB", "400 closed", [get("/" + "y" * (1 << 20), ALICE)]),
    Attack("a method of 1 MB", "400 closed", [get(method="X" * (1 << 20))]),
    Attack(
        "a head without an end", "400 closed", [b"GET / HTTP/1.1\r\nX: ", lambda: (b"y" * 65_536 for _ in range(100))]
    ),
    Attack("a header without a name", "400 closed", [get("/health/live", ALICE, ": x")]),
    Attack("a header without a colon", "400 closed", [get("/health/live", ALICE, "nothing")]),
    Attack("a header with a zero", "400 closed", [get("/health/live", ALICE, ("X", "a\x00b"))]),
    Attack("a header with half a line's end", "400 closed", [get("/health/live", ALICE, ("X", "a\rAuthorization: b"))]),
    Attack("a name with a line's end in it", "421", [get("/health/live", host="hub.example\r\n\tX")]),
    Attack("an early version", "400 closed", [b"GET /health/live\r\n\r\n"]),
    Attack(
        "HTTP/1.0 without a name", "421 closed", [b"GET /health/live HTTP/1.0\r\nAuthorization: Bearer %alice%\r\n\r\n"]
    ),
    Attack(
        "HTTP/2 at once",
        "421",
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        run=lambda target: str(_first(target, b"PRI * HTTP/2.0\r\n\r\n")),
    ),
    Attack(
        "HTTP/2 by an upgrade",
        "200",
        [
            get(
                "/health/live",
                ALICE,
                ("Connection", "Upgrade, HTTP2-Settings"),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", ""),
            )
        ],
    ),
    Attack(
        "a web socket of a stranger",
        ("401", "403 closed"),
        [
            get(
                "/mcp",
                *[
                    ("Connection", "Upgrade"),
                    ("Upgrade", "websocket"),
                    ("Sec-WebSocket-Version", "13"),
                    ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
                ],
            )
        ],
    ),
    Attack("TLS", "400 closed", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n"]),
    Attack("noise", "400 closed", [bytes(range(256)) * 300]),
    Attack("a word of another protocol", "400 closed", [b"EHLO evil.example\r\nQUIT\r\n\r\n"]),
    Attack("another's hub through ours", "404", [get("http://evil.example/health/live", ALICE)]),
    Attack("a tunnel through ours", "404", [get("evil.example:443", ALICE, method="CONNECT")]),
    Attack(
        "the request, please, in return",
        "405",
        [get("/health/live", ALICE, method="TRACE")],
        check=lambda heard: b"llmhub_" not in heard.responses[0].body,
    ),
    Attack(
        "another method in a header",
        "405",
        [request("PUT", "/health/live", ALICE, ("X-HTTP-Method-Override", "GET"), host=HOST)],
    ),
    Attack("a stranger waits to be asked for his body", "401", run=_unasked),
]


def _first(target: Target, piece: bytes) -> int:
    with target.talk() as talk:
        talk.send(piece)
        return talk.hear(1).last.status


# Addresses ------------------------------------------------------------------------------------------------------------

PATHS = {
    "//metrics": "404",
    "/metrics/": "307",
    "/./metrics": "404",
    "/x/../metrics": "404",
    "/%2e%2e/metrics": "404",
    "/%6detrics": "403",
    "/metrics%00": "404",
    "/metrics%20": "404",
    "/metrics%0d%0aX:y": "404",
    "/METRICS": "404",
    "/metrics;x": "404",
    "/metrics%3f": "404",
    "/health%2ftokens": "403",
    "/health/tokens/..%2flive": "404",
    "/health/live/../tokens": "404",
    "\\metrics": "404",
    "/%ff%fe": "404",
    "/%": "404",
    "*": "404",
    "/.env": "404",
    "/../../../../etc/passwd": "404",
    "/mcp/../metrics": "404",
    "/docs": "404",
    "/openapi.json": "404",
}
"""What a client without the scope `status` gets there: never what it may not see."""
TRICKS = [
    Attack(
        f"path {path}",
        answer,
        [get(path, bearer("carol"))],
        check=lambda heard: b"llm_hub" not in heard.responses[0].body,
    )
    for path, answer in PATHS.items()
]
