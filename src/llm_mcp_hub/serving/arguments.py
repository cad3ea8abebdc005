"""What callers may give, checked strictly: no coercion, no unknown names, and complaints that quote nothing.

The SDK's own check would coerce, drop unknown names and quote the prompt in its complaint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from llm_mcp_hub.conversation import PROMPT_LIMIT
from llm_mcp_hub.errors import InvalidRequest


class Strict(BaseModel):
    """No coercion, no unknown names, and complaints that do not quote what was given."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, frozen=True)


A = TypeVar("A", bound=Strict)


class GitDiffArgument(Strict):
    """A diff of the repository that the hub works in."""

    base: Annotated[
        str | None,
        Field(default=None, max_length=200, description="Revision to compare the working tree with. Default: HEAD."),
    ]
    paths: Annotated[list[str] | None, Field(default=None, max_length=100, description="Only these files or folders.")]


class AttachmentArgument(Strict):
    """Something that the caller sends along."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    mime_type: Annotated[str, Field(min_length=1, max_length=100)]
    text: Annotated[str | None, Field(default=None, repr=False, description="Either this or data.")]
    data: Annotated[str | None, Field(default=None, repr=False, description="Base64.")]


class AskArguments(Strict):
    """Arguments of every `ask_*` tool."""

    prompt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=PROMPT_LIMIT,
            repr=False,
            description="The question. It reaches the model character for character; nothing in it is expanded or run.",
        ),
    ]
    model: Annotated[str | None, Field(default=None, max_length=100)]
    system: Annotated[
        str | None,
        Field(
            default=None,
            max_length=PROMPT_LIMIT,
            repr=False,
            description="Instruction for the whole conversation; at its first turn only.",
        ),
    ]
    conversation_id: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=100,
            description="Continue this conversation, whichever model answered in it. Default: a new one.",
        ),
    ]
    files: Annotated[
        list[str] | None,
        Field(
            default=None,
            max_length=100,
            description="Paths of text, image or PDF files whose content is put before the prompt; only inside the "
            "folders that the hub's owner allows.",
        ),
    ]
    git_diff: Annotated[
        GitDiffArgument | None,
        Field(
            default=None,
            description="Puts the diff of the repository before the prompt; {} for all of it. "
            "New files are named only.",
        ),
    ]
    attachments: Annotated[
        list[AttachmentArgument] | None,
        Field(default=None, max_length=100, description="Texts, images or PDFs sent along; 10 MB in all."),
    ]
    effort: Annotated[
        Literal["low", "medium", "high"] | None,
        Field(default=None, description="How long the model thinks, where it can be told."),
    ]
    timeout_s: Annotated[
        float | None,
        Field(
            default=None,
            ge=1,
            le=3600,
            description="Seconds from now until the whole answer must be there. Default: the hub's HUB_ASK_TIMEOUT_S "
            "(600 if unset).",
        ),
    ]
    wait_s: Annotated[
        float | None,
        Field(
            default=None,
            ge=0,
            le=3600,
            description="Seconds that this call waits. A longer answer goes on without it, and the call returns a "
            "ticket for ask_result. Default: what this client is known to stand.",
        ),
    ]


class ResultArguments(Strict):
    """Arguments of `ask_result`."""

    ask_id: Annotated[
        str | None, Field(default=None, min_length=1, max_length=100, description="Left out: lists your last 10 asks.")
    ]
    wait_s: Annotated[
        float | None,
        Field(default=None, ge=0, le=3600, description="Seconds to wait for the end of an ask that still runs."),
    ]
    offset: Annotated[
        int | None, Field(default=None, ge=0, description="Where to go on in a long answer, in characters.")
    ]


class CancelArguments(Strict):
    """Arguments of `ask_cancel`."""

    ask_id: Annotated[str, Field(min_length=1, max_length=100, description="The ask to end.")]


def status_arguments(providers: tuple[str, ...]) -> type[Strict]:
    """The arguments of `token_status` where these providers are."""

    class StatusArguments(Strict):
        """Arguments of `token_status`."""

        provider: Annotated[
            Literal[providers] | None,  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm]
            Field(default=None, description="One provider; all of them if left out."),
        ]
        verify: Annotated[
            bool,
            Field(
                default=False,
                description="Prove the logins by one tiny real ask each, which spends a little of the subscription; at "
                "most once a minute.",
            ),
        ]

    return StatusArguments


def validated(model: type[A], given: Mapping[str, Any], provider: str | None) -> A:
    """What was given, as `model`. Raises InvalidRequest."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        first = _most_telling(faults)
        where = _path(first["loc"])
        outer = first["loc"][0] if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            # The name is the caller's text: a client that mixes names and values up could have put a prompt there.
            known = [*_WITHIN[outer].model_fields] if len(first["loc"]) > 1 else [*model.model_fields]
            near = _nearest(where.rpartition(".")[2], known)
            raise InvalidRequest(
                f"An argument is unknown.{f' Did you mean {near}?' if near else ''}",
                action=f"Use only: {', '.join(known)}{f' in {outer}' if len(first['loc']) > 1 else ''}.",
                provider=provider,
            ) from None
        if first["type"] == "string_unicode":
            raise half_a_character(provider) from None
        if first["type"] == "model_type":  # pydantic would name a class of ours
            raise InvalidRequest(
                f"{where}: it is no object.", action=f"Give {where} as an object: {_SHAPES[outer]}.", provider=provider
            ) from None
        if first["type"] == "missing" and outer in _SHAPES and len(first["loc"]) > 1:
            # All at once: the next round would name the next one.
            action = f"Give {where.rpartition('.')[0]} {_SHAPES[outer]}."
        elif first["type"] == "literal_error":
            action = f"Give {where} as {first['msg'].removeprefix('Input should be ')}."
        else:
            action = _ADVICE.get(first["type"], "Correct {}.").format(where)
        raise InvalidRequest(f"{where}: {first['msg']}.", action=action, provider=provider) from None


def _most_telling(faults: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first; but where something is missing that a caller has given by almost that name, the name."""
    first, *others = faults
    if first["type"] == "missing":
        for other in others:
            beside = other["type"] == "extra_forbidden" and other["loc"][:-1] == first["loc"][:-1]
            if beside and _nearest(other["loc"][-1], [str(first["loc"][-1])]):
                return other
    return first


def _nearest(name: int | str, known: Sequence[str]) -> str | None:
    """The one of these that an unknown name is almost."""
    from difflib import get_close_matches  # where something is wrong alone: a hub starts without it

    return next(iter(get_close_matches(str(name)[:LONGEST_NAME], known, 1)), None)


def _path(loc: tuple[int | str, ...]) -> str:
    """Where a fault is: `attachments[0].text`. The names are ours; one that is unknown is no fault of this form."""
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return parts.lstrip(".") or "arguments"


LONGEST_NAME = 64
"""Characters of an unknown name that are compared with ours; one that is a whole prompt would take the loop's time."""
_WITHIN: Mapping[int | str, type[BaseModel]] = {"git_diff": GitDiffArgument, "attachments": AttachmentArgument}
"""Arguments that are objects, or lists of them."""
_SHAPES: Mapping[int | str, str] = {
    "git_diff": '{} for all changes, or {"base": "main"}',
    "attachments": "with name, mime_type, and either text or data",
}
"""How one of them is given."""
_ADVICE = {
    "missing": "Give {}.",
    "string_type": "Give {} as a text.",
    "float_type": "Give {} as a number.",
    "int_type": "Give {} as a whole number.",
    "list_type": "Give {} as a list.",
    "bool_type": "Give {} as true or false.",
    "bool_parsing": "Give {} as true or false.",
    "string_too_short": "Give {} with text in it.",
    "string_too_long": "Shorten {}.",
    "too_long": "Give fewer {}.",
    "greater_than_equal": "Give a larger {}.",
    "less_than_equal": "Give a smaller {}.",
}
"""The next step by the kind of fault, as pydantic names it."""


def half_a_character(provider: str | None) -> InvalidRequest:
    """What text with half of a character in it gets."""
    return InvalidRequest(
        "The arguments hold half of a character (a lone surrogate) or bytes that are no text.",
        action="Remove it, or send the whole character.",
        provider=provider,
    )


def schema_of(model: type[Strict]) -> dict[str, Any]:
    """The model's JSON schema as clients like it: no titles, no references, optional arguments just not required."""
    schema = model.model_json_schema()
    plain: dict[str, Any] = _plain(schema, schema.pop("$defs", {}))
    plain.pop("description", None)
    return plain


def _plain(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(part)
    if "$ref" in plain:
        meant = _plain(definitions[plain.pop("$ref").rpartition("/")[2]], definitions)
        plain = {**meant, **plain}
    options = plain.pop("anyOf", None)
    if options is not None:
        meant = _plain(next(option for option in options if option.get("type") != "null"), definitions)
        plain = {**meant, **plain}
        plain.pop("default", None)
    if isinstance(plain.get("title"), str):
        plain.pop("title")
    if "items" in plain:
        plain["items"] = _plain(plain["items"], definitions)
    if "properties" in plain:
        held = cast("dict[str, Mapping[str, Any]]", plain["properties"])
        plain["properties"] = {name: _plain(value, definitions) for name, value in held.items()}
    return plain
