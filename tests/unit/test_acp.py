"""The codec of the Agent Client Protocol: bytes of the real CLI, every malformed line, and our own lines."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_mcp_hub.providers import acp
from llm_mcp_hub.providers.acp import AgentRequest, Decoder, Message, Noise, Reply, Update
from tests.unit.strategies import TEXT, any_json, chunked
from tests.unit.transcripts import as_json, cases

RECORDED = cases()


def decode(*chunks: bytes) -> list[Message]:
    decoder = Decoder()
    return [message for chunk in chunks for message in decoder.feed(chunk)]


def line(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode() + b"\n"


# -- what the real CLI writes ------------------------------------------------------------------------------------------


def test_there_are_recordings() -> None:
    """The discovery below finds the cases; without this, an empty folder would pass."""
    names = {case.name for case in RECORDED}

    assert {"a_streamed_answer", "a_used_up_quota", "a_login_prompt", "a_cancelled_answer"} <= names


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_recorded_bytes_hold_the_recorded_messages(case: Path) -> None:
    """Bytes of a real CLI on a real terminal, against messages that a person has read."""
    decoder = Decoder()
    expected = json.loads((case / "expected.json").read_text("utf-8"))

    messages = decoder.feed((case / "input.bin").read_bytes())

    assert [as_json(message) for message in messages] == expected["messages"]
    assert decoder.pending == expected["pending"].encode("latin-1")


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1021])
def test_the_size_of_chunks_changes_no_recorded_message(case: Path, size: int) -> None:
    """A terminal hands bytes out as it likes: cut everywhere, inside characters and escapes too."""
    written = (case / "input.bin").read_bytes()
    whole, cut = Decoder(), Decoder()

    in_pieces = [m for at in range(0, len(written), size) for m in cut.feed(written[at : at + size])]

    assert in_pieces == whole.feed(written)
    assert cut.pending == whole.pending


def test_the_preamble_and_the_first_reply_on_one_line_are_two_messages() -> None:
    """The CLI writes its terminal queries and no line end before the first reply."""
    first, second = decode(b"\x1b[8m\x1b[c\x1b[2K\r\x1b[0m" + line(id=1, result={"protocolVersion": 1}))

    assert first == Noise(b"\x1b[8m\x1b[c\x1b[2K\r\x1b[0m")
    assert second == Reply(1, {"protocolVersion": 1})


def test_a_question_without_a_line_end_can_be_seen() -> None:
    """A login prompt waits on its line: it shows in `pending`, or the hub would wait for ever."""
    decoder = Decoder()

    assert decoder.feed(b"Enter the authorization ") == []
    assert decoder.feed(b"code: ") == []
    assert decoder.pending == b"Enter the authorization code: "


def test_what_is_pending_is_gone_when_its_line_ends() -> None:
    """What has become a message is not handed out a second time."""
    decoder = Decoder()
    decoder.feed(b'{"jsonrpc":"2.0","id":1,')

    assert decoder.feed(b'"result":{}}\nrest') == [Reply(1, {})]
    assert decoder.pending == b"rest"


# -- one line, one meaning ---------------------------------------------------------------------------------------------

UPDATE = {
    "sessionId": "s",
    "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x"}},
}

LINES: dict[str, tuple[bytes, list[Message]]] = {
    "empty": (b"\n", []),
    "carriage return only": (b"\r\n", []),
    "text": (b"hello\n", [Noise(b"hello")]),
    "reply": (line(id=7, result={"a": 1}), [Reply(7, {"a": 1})]),
    "reply with a carriage return": (line(id=7, result={})[:-1] + b"\r\n", [Reply(7, {})]),
    "reply with a result that is no object": (line(id=7, result=[1]), [Reply(7, {})]),
    "reply with neither result nor error": (line(id=7), [Reply(7, {})]),
    "error": (line(id=7, error={"code": 429, "message": "slow"}), [Reply(7, None, 429, "slow")]),
    "error without code": (line(id=7, error={"message": "slow"}), [Reply(7, None, 0, "slow")]),
    "error with a code that is no number": (line(id=7, error={"code": "429"}), [Reply(7, None, 0, "")]),
    "error with a message that is no text": (line(id=7, error={"code": 1, "message": [1]}), [Reply(7, None, 1, "")]),
    "update": (line(method="session/update", params=UPDATE), [Update("s", "agent_message_chunk", "x")]),
    "update without text": (
        line(method="session/update", params={"sessionId": "s", "update": {"sessionUpdate": "plan"}}),
        [Update("s", "plan")],
    ),
    "update with content that is no object": (
        line(method="session/update", params={"sessionId": "s", "update": {"sessionUpdate": "p", "content": ["x"]}}),
        [Update("s", "p")],
    ),
    "update with text that is no text": (
        line(
            method="session/update", params={"sessionId": "s", "update": {"sessionUpdate": 3, "content": {"text": 1}}}
        ),
        [Update("s", "")],
    ),
    "a request of the agent": (
        line(id=0, method="session/request_permission", params={}),
        [AgentRequest(0, "session/request_permission")],
    ),
    "a request with a word as its number": (line(id="a", method="fs/read"), [AgentRequest("a", "fs/read")]),
    "text cut in the middle of a character": (
        b'{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":{"content":{"text":"\\ud83d"}}}}\n',
        [Update("s", "", "\ud83d")],
    ),
    "half a character, as JSON writes it": (
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"a\\ud800b"}}\n',
        [Reply(1, None, 1, "a\ufffdb")],
    ),
    "half a character, as bytes": (
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"a\xed\xa0\x80b"}}\n',
        [Reply(1, None, 1, "a\ufffdb")],
    ),
}


@pytest.mark.parametrize(("given", "expected"), LINES.values(), ids=LINES)
def test_a_line_becomes_these_messages(given: bytes, expected: list[Message]) -> None:
    """The codec's table, one row a kind of line."""
    assert decode(given) == expected


NO_MESSAGES = {
    "a notification that we do not know": line(method="session/else", params=UPDATE),
    "an update without parameters": line(method="session/update"),
    "an update with a list as parameters": line(method="session/update", params=[UPDATE]),
    "an update without a session": line(method="session/update", params={"update": {}}),
    "an update that is no object": line(method="session/update", params={"sessionId": "s", "update": "x"}),
    "a reply to nobody": line(id=None, result={}),
    "a reply to a word": line(id="7", result={}),
    "a reply to a truth": line(id=True, result={}),
    "a reply to a fraction": line(id=1.0, result={}),
    "a request numbered by a truth": line(id=True, method="fs/read"),
    "a request numbered by half a character": b'{"jsonrpc":"2.0","id":"\\ud800","method":"fs/read"}\n',
    "a message cut off": line(id=7, result={"a": 1})[:-4] + b"\n",
    "two messages on one line": line(id=1, result={})[:-1] + line(id=2, result={}),
    "bytes that are no UTF-8": b'{"jsonrpc":"2.0","id":1,"result":{"a":"\xff"}}\n',
    "deeper than anybody nests": b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000 + b"\n",
    "a number of ten thousand digits": b'{"jsonrpc":"2.0","id":' + b"9" * 10_000 + b',"result":{}}\n',
}


@pytest.mark.parametrize("given", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message_for_us_is_noise_as_a_whole(given: bytes) -> None:
    """Nothing half understood is passed on, and nothing raises."""
    assert decode(given) == [Noise(given[:-1])]


# -- our own lines -----------------------------------------------------------------------------------------------------


def test_we_offer_the_agent_no_files() -> None:
    """The first request says that we read and write no file for the agent."""
    assert json.loads(acp.initialize(3)) == {
        "jsonrpc": "2.0",
        "id": 3,
        "method": "initialize",
        "params": {
            "protocolVersion": 1,
            "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}},
        },
    }


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (
            AgentRequest(5, "session/request_permission"),
            {"jsonrpc": "2.0", "id": 5, "result": {"outcome": {"outcome": "cancelled"}}},
        ),
        (
            AgentRequest("x", "fs/read_text_file"),
            {"jsonrpc": "2.0", "id": "x", "error": {"code": -32601, "message": "Method not found"}},
        ),
    ],
)
def test_the_agent_is_refused_whatever_it_asks_for(asked: AgentRequest, answer: dict[str, Any]) -> None:
    """A permission is cancelled; files and terminals do not exist here."""
    assert json.loads(acp.refusal(asked)) == answer


def test_a_notification_has_no_number() -> None:
    """With a number, the agent would have to answer a cancel."""
    assert json.loads(acp.notification("session/cancel", {"sessionId": "s"})) == {
        "jsonrpc": "2.0",
        "method": "session/cancel",
        "params": {"sessionId": "s"},
    }


def test_what_is_not_ascii_is_sent_as_it_is() -> None:
    """A million Hangul characters are 3 MB so, and 6 MB as escapes: a pseudo-terminal is slow."""
    assert "한".encode() * 1000 in acp.prompt(1, "s", ["한" * 1000])


def test_data_is_sent_as_a_picture_whatever_it_is() -> None:
    """The CLI hands an image block on to the model with its type, a PDF too; a resource it would look for on disk."""
    sent = json.loads(acp.prompt(1, "s", ["before", acp.Data("application/pdf", b"%PDF\x00\xff"), "the prompt"]))

    assert sent["params"]["prompt"] == [
        {"type": "text", "text": "before"},
        {"type": "image", "mimeType": "application/pdf", "data": "JVBERgD/"},
        {"type": "text", "text": "the prompt"},
    ]


# -- properties --------------------------------------------------------------------------------------------------------


@given(chunked(st.binary(max_size=400)))
def test_any_bytes_in_any_chunks_give_the_same_messages(given: tuple[bytes, list[bytes]]) -> None:
    """Whatever a CLI writes and however it arrives: no exception, and no message more or less."""
    whole, chunks = given

    assert decode(*chunks) == decode(whole)


@given(
    chunked(
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                any_json().map(lambda value: json.dumps(value).encode()),
                st.fixed_dictionaries(
                    {"jsonrpc": st.just("2.0")},
                    optional={
                        "id": st.one_of(st.integers(), any_json()),
                        "method": st.one_of(st.sampled_from(["session/update", "fs/read"]), any_json()),
                        "result": any_json(),
                        "error": st.one_of(
                            st.fixed_dictionaries({"code": any_json(), "message": any_json()}), any_json()
                        ),
                        "params": st.one_of(
                            st.fixed_dictionaries({"sessionId": any_json(), "update": any_json()}), any_json()
                        ),
                    },
                ).map(lambda message: json.dumps(message, separators=(",", ":")).encode()),
            ),
            max_size=6,
        ).map(lambda lines: b"\n".join(lines) + b"\n")
    )
)
def test_anything_like_a_message_is_decoded_or_noise(given: tuple[bytes, list[bytes]]) -> None:
    """Messages with every part missing, swapped or of another kind: chunk-independent, typed, and fit for UTF-8."""
    whole, chunks = given

    messages = decode(*chunks)

    assert messages == decode(whole)
    for message in messages:
        match message:
            case Reply():
                assert type(message.id) is int
                assert (message.result is None) == (message.error_code is not None)
                message.error_message.encode()
            case Update():
                message.kind.encode()  # the text may end in half of a character, whose other half comes with the next
            case AgentRequest():
                assert json.loads(acp.refusal(message))["id"] == message.id
            case Noise():
                assert message.data


BLOCKS = st.lists(st.one_of(TEXT, st.builds(acp.Data, TEXT, st.binary(max_size=60))), max_size=4)


@given(st.integers(min_value=0), TEXT, BLOCKS)
def test_a_prompt_is_one_line_and_arrives_as_it_was(number: int, session: str, blocks: list[acp.Block]) -> None:
    """No block can end the line early, and every character and every byte comes back out of it."""
    sent = acp.prompt(number, session, blocks)

    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
    message = json.loads(sent)
    assert message["id"] == number
    assert message["params"]["sessionId"] == session
    assert [_read_back(block) for block in message["params"]["prompt"]] == blocks


def _read_back(block: dict[str, str]) -> acp.Block:
    """A block of the wire; one of any other kind or with more in it fails."""
    kind = block.pop("type")
    back = block.pop("text") if kind == "text" else acp.Data(block.pop("mimeType"), base64.b64decode(block.pop("data")))
    assert (kind in {"text", "image"}, block) == (True, {})
    return back
