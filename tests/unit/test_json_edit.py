"""Changing one member of somebody else's JSON: what was there stays, byte for byte, comments and all."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_mcp_hub.commands.json_edit import Unreadable, add, drop, put, read, remove

ENTRY: dict[str, Any] = {"command": "hub", "args": ["-x"], "timeout": 660_000}
PATH = ["mcpServers", "llm-hub"]

BEFORE_AND_AFTER = {
    "nothing": ("", '{\n  "mcpServers": {\n    "llm-hub": 1\n  }\n}\n'),
    "blanks": (" \n", '{\n  "mcpServers": {\n    "llm-hub": 1\n  }\n}\n'),
    "a byte order mark": ("\ufeff", '\ufeff{\n  "mcpServers": {\n    "llm-hub": 1\n  }\n}\n'),
    "a comment alone": ("// mine\n", '// mine\n{\n  "mcpServers": {\n    "llm-hub": 1\n  }\n}\n'),
    "an empty object": ("{}", '{\n  "mcpServers": {\n    "llm-hub": 1\n  }\n}'),
    "another key": ('{\n    "a": 1\n}\n', '{\n    "a": 1,\n    "mcpServers": {\n        "llm-hub": 1\n    }\n}\n'),
    "no servers": ('{\n  "mcpServers": {}\n}', '{\n  "mcpServers": {\n    "llm-hub": 1\n  }\n}'),
    "one line": ('{"a": 1, "mcpServers": {"x": {}}}', '{"a": 1, "mcpServers": {"x": {}, "llm-hub": 1}}'),
    "no blank at all": ('{"a":1,"mcpServers":{"x":{}}}', '{"a":1,"mcpServers":{"x":{},"llm-hub":1}}'),
    "no blank, no servers": ('{"mcpServers":{}}', '{"mcpServers":{"llm-hub":1}}'),
    "tabs and CRLF": (
        '{\r\n\t"mcpServers": {\r\n\t\t"x": {}\r\n\t}\r\n}\r\n',
        '{\r\n\t"mcpServers": {\r\n\t\t"x": {},\r\n\t\t"llm-hub": 1\r\n\t}\r\n}\r\n',
    ),
    "comments": (
        '{\n  // mine\n  "mcpServers": {\n    "x": {} // the "best", {one}\n    /* , */\n  }\n}',
        '{\n  // mine\n  "mcpServers": {\n    "x": {}, // the "best", {one}\n    /* , */\n    "llm-hub": 1\n  }\n}',
    ),
    "a trailing comma": (
        '{\n  "mcpServers": {\n    "x": {},\n  },\n}',
        '{\n  "mcpServers": {\n    "x": {},\n    "llm-hub": 1\n  },\n}',
    ),
    "brackets on one line": (
        '{ "a": 1,\n  "mcpServers": { "x": {} } }',
        '{ "a": 1,\n  "mcpServers": { "x": {}, "llm-hub": 1 } }',
    ),
    "an entry of ours": ('{"mcpServers": {"llm-hub": {"a": 2}, "x": 0}}', '{"mcpServers": {"llm-hub": 1, "x": 0}}'),
    "the key twice": (
        '{"mcpServers": {}, "mcpServers": {"x":0}}',
        '{"mcpServers": {}, "mcpServers": {"x":0, "llm-hub": 1}}',
    ),
    "what looks like the end": ('{"mcpServers": {"}\\"": "// }"}}', '{"mcpServers": {"}\\"": "// }", "llm-hub": 1}}'),
    "numbers of any length": (f'{{"a": {"9" * 5000}, "b": 1e400}}', None),
}


@pytest.mark.parametrize("case", BEFORE_AND_AFTER)
def test_a_member_is_put_where_its_owner_would_have_put_it(case: str) -> None:
    """And nothing else is touched."""
    before, after = BEFORE_AND_AFTER[case]

    done = put(before, PATH, 1)

    assert after is None or done == after
    assert read(done)["mcpServers"]["llm-hub"] == 1
    assert put(done, PATH, 1) == done


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": }', "no JSON at line 1, column 7"),
        ('{"a": 1}\n}', "no JSON at line 2, column 1"),
        ('{"a": "secret}', "no JSON"),
        ('{"a": 1 /* no end }', "no JSON"),
        ('{"a": NaN}', "no JSON"),
        ('{"a": 1e9999999999999999999999}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "no JSON object"),
        ('"text"', "no JSON object"),
        ("{\0}", "no JSON"),
        ('{"mcpServers": []}', "`mcpServers` is no object"),
        ('{"mcpServers": null}', "`mcpServers` is no object"),
        ('{"mcpServers": "x"}', "`mcpServers` is no object"),
        ('{"mcpServers": {"llm-hub": {"inner": 3}}}', "`mcpServers.llm-hub.inner` is no object"),
    ],
)
def test_what_is_not_understood_is_refused_and_not_quoted(text: str, why: str) -> None:
    """With the place where it goes wrong: a file of 3,000 lines is hard to look through."""
    with pytest.raises(Unreadable) as refused:
        put(text, [*PATH, "inner", "more"], 1)

    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            '{\n  "a": 1,\n  "mcpServers": {\n    "llm-hub": {\n    },\n    "x": {}\n  }\n}',
            '{\n  "a": 1,\n  "mcpServers": {\n    "x": {}\n  }\n}',
        ),
        ('{"mcpServers": {"x": 0, "llm-hub": 1}}', '{"mcpServers": {"x": 0}}'),
        ('{"mcpServers": {"llm-hub": 1, "x": 0}}', '{"mcpServers": {"x": 0}}'),
        ('{"mcpServers": {"llm-hub": 1}}', '{"mcpServers": {}}'),
        ('{"mcpServers": {\n "x": 0, // of x\n "llm-hub": 1\n}}', '{"mcpServers": {\n "x": 0 // of x\n}}'),
        ('{"mcpServers": {\n "x": 0, // of x\n "llm-hub": 1 }}', '{"mcpServers": {\n "x": 0 // of x\n  }}'),
        ('{"mcpServers": {\n "x": 0,\n "llm-hub": 1,\n}}', '{"mcpServers": {\n "x": 0,\n}}'),
        ('{"mcpServers": {"llm-hub": 0, "x": 2, "llm-hub": 1}}', '{"mcpServers": {"x": 2}}'),
        ('{"mcpServers": {"x": 0}}', '{"mcpServers": {"x": 0}}'),
        ('{"a": 0}', '{"a": 0}'),
        ("", ""),
    ],
)
def test_a_member_is_taken_out_with_its_comma(text: str, after: str) -> None:
    """A file that had it twice has it no more."""
    assert remove(text, PATH) == after


def test_an_element_is_added_once_and_dropped_again() -> None:
    """Behind those that are there, whose order may mean something."""

    def ours(element: Any) -> bool:
        return isinstance(element, dict) and "id" in element

    text = '{\n  "inputs": [\n    1, // one\n    2\n  ]\n}'

    done = add(text, "inputs", {"id": 3}, ours)

    assert read(done) == {"inputs": [1, 2, {"id": 3}]}
    assert "// one" in done
    assert add(done, "inputs", {"id": 4}, ours) == done
    assert drop(done, "inputs", ours) == text
    assert read(add('{"a": 1}', "inputs", {"id": 3}, ours)) == {"a": 1, "inputs": [{"id": 3}]}
    with pytest.raises(Unreadable, match="`inputs` is no array"):
        add('{"inputs": {}}', "inputs", {"id": 3}, ours)


NAMES = st.one_of(st.sampled_from(["mcpServers", "llm-hub", "a//b", "/*", '"}', "é\u2028", "\\"]), st.text(max_size=5))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(['// "no', "*/", ",]", "\ud800", "한"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


def written(value: Any, chance: random.Random, comments: list[str]) -> str:
    """A value in somebody's own hand: blanks, comments and trailing commas where JSONC allows them."""

    def gap() -> str:
        kind = chance.randrange(8)
        if kind in {0, 1}:
            comments.append(f'{len(comments)}, }} " ] //')
            return f"/*{comments[-1]}*/" if kind else f"//{comments[-1]}\n"
        return ["", " ", "\n", "\r\n\t", "", ""][kind - 2]

    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        parts = [
            f"{json.dumps(name)}{gap()}:{gap()}{written(each, chance, comments)}" for name, each in members.items()
        ]
        brackets = "{}"
    elif isinstance(value, list):
        parts, brackets = [written(each, chance, comments) for each in cast("list[Any]", value)], "[]"
    else:
        return json.dumps(value)
    inner = ",".join(f"{gap()}{part}{gap()}" for part in parts)
    comma = "," if parts and not chance.randrange(3) else ""
    return f"{brackets[0]}{inner}{comma}{gap()}{brackets[1]}"


def is_within(short: str, long: str) -> bool:
    """Whether every character of one text stands in the other, in its order."""
    rest = iter(long)
    return all(character in rest for character in short)


@settings(max_examples=100, deadline=None)
@given(held=OBJECTS, servers=st.none() | OBJECTS, seed=st.integers(0, 2**32))
def test_whoever_wrote_it_finds_it_again(held: dict[str, Any], servers: dict[str, Any] | None, seed: int) -> None:
    """In any hand: each value, each comment and, where nothing had to be replaced, each character."""
    held.pop("mcpServers", None)
    if servers is not None:
        held["mcpServers"] = servers
    comments: list[str] = []
    text = written(held, random.Random(seed), comments)

    done = put(text, PATH, ENTRY)

    assert read(done) == {**held, "mcpServers": {**(servers or {}), "llm-hub": ENTRY}}
    assert list(read(done)) == list({**held, "mcpServers": 0})
    assert put(done, PATH, ENTRY) == done
    if "llm-hub" not in (servers or {}):
        assert is_within(text, done)
        assert [comment for comment in comments if comment not in done] == []
        without = remove(done, PATH)
        assert read(without) == {**held, "mcpServers": servers or {}}
        assert [comment for comment in comments if comment not in without] == []


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='{}[]",:/*\\ \n\r\tna1\ufeff\ud800', max_size=40))
def test_no_text_makes_it_fall_over(text: str) -> None:
    """It is understood and kept, or refused."""
    try:
        done = put(text, PATH, 1)
    except Unreadable:
        return
    assert read(done) == {**read(text), "mcpServers": {**read(text).get("mcpServers", {}), "llm-hub": 1}}
