"""Gathers what is put before a prompt, of files, a git diff and attachments.

Everything is bounded, in number and in size. What is refused is refused as a whole request, with the name as the
caller gave it and one reason; nothing is cut, skipped or shortened in silence, and no error holds a content.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm_mcp_hub.conversation import Part, whole
from llm_mcp_hub.errors import InvalidRequest, Timeout
from llm_mcp_hub.material.diff import GitDiff, difference
from llm_mcp_hub.material.reading import HERE, REFUSED, Roots
from llm_mcp_hub.material.repository import work_tree
from llm_mcp_hub.material.rules import (
    BINARY,
    FILE_LIMIT,
    SECRET,
    TEXT_LIMIT,
    Unreadable,
    any_refused,
    holds_secret,
    is_one_line,
    is_text_type,
    is_whole,
    kind,
    shown,
    text_of,
)

COUNT_LIMIT = 100
"""Files, and attachments, of one request."""
ATTACHMENTS_LIMIT = 10_000_000
"""Bytes of all attachments."""
DATA_LIMIT = 32_000_000
"""Bytes of images and PDF files before one prompt: no provider takes a larger request."""
NAME_LIMIT = 255
"""Characters of an attachment's name."""

_OTHER_KIND = "Name a text (UTF-8 or UTF-16), PNG, JPEG, WebP, GIF or PDF file."


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something that a client sends along itself, made by `attachment`. Either text or data."""

    name: str
    mime_type: str
    text: str | None = field(repr=False)
    data: bytes | None = field(repr=False)


class Material:
    """Gathers what is put before a prompt."""

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        around: Mapping[str, str],
        closed: Sequence[Path] = (),
        scratch: Path | None = None,
    ) -> None:
        """What may be read, and with what.

        Args:
            roots: folders that files may be read from; none: only attachments are taken.
            around: the environment, of which git gets no more than any child.
            closed: files and folders that are never read, whatever they are called: the hub's own. A root that is
                inside one of them is open all the same.
            scratch: where git's working folders are made (0700, removed at once, or with this one if the hub dies);
                None: where the system has its temporary files.
        """
        self._roots = Roots(roots, closed)
        self._around = around
        self._scratch = scratch

    @property
    def roots(self) -> tuple[Path, ...]:
        """Where files may be read from, without links."""
        return tuple(map(Path, self._roots.folders))

    async def gather(
        self,
        *,
        provider: str,
        takes: Collection[str],
        files: Sequence[str],
        git_diff: GitDiff | None,
        attachments: Sequence[Attachment],
        within_s: float | None = None,
    ) -> tuple[Part, ...]:
        """Everything in the order files, diff, attachments.

        Args:
            provider: whom an error names.
            takes: MIME types of images and documents that it takes.
            files: paths; a relative one starts at the first root.
            git_diff: what to compare, if anything.
            attachments: what the client sent along.
            within_s: how long all of it may take; None: as long as it takes.

        Raises InvalidRequest, Timeout, and Misconfigured where there is no git.
        """
        basket = _Basket(provider, takes)
        try:
            async with asyncio.timeout(within_s):
                await self._fill(basket, files, git_diff, attachments)
        except TimeoutError:
            raise Timeout(
                f"What is put before the prompt was not read within {max(0.0, within_s or 0.0):.0f} s.",
                action="Ask again with a larger timeout_s, or name fewer files.",
                provider=provider,
            ) from None
        return tuple(basket.parts)

    async def _fill(
        self, basket: _Basket, files: Sequence[str], git_diff: GitDiff | None, attachments: Sequence[Attachment]
    ) -> None:
        for what, given in (("files", files), ("attachments", attachments)):
            if len(given) > COUNT_LIMIT:
                raise basket.refusal(f"{what}: at most {COUNT_LIMIT} are taken.", "Leave some out.")
        if not HERE and (files or git_diff is not None):
            raise basket.refusal(
                "The hub reads no files on Windows, which cannot keep a path from being swapped while it is opened.",
                "Send the content in `attachments`, or run the hub in WSL.",
            )
        if not self._roots.folders and (files or git_diff is not None):
            raise basket.refusal(
                "There is no file root, so no file and no diff can be read.",
                "Set HUB_FILE_ROOTS to the folders that may be read, or send the content in `attachments`, which need "
                "none.",
            )
        if sum(_size(given) for given in attachments) > ATTACHMENTS_LIMIT:
            raise basket.refusal(
                f"attachments: all together are larger than {ATTACHMENTS_LIMIT // 1_000_000} MB.", "Leave some out."
            )
        if files:
            await asyncio.to_thread(self._read, files, basket)
        if git_diff is not None:
            name = f"git diff {git_diff.base or 'HEAD'}"
            try:
                text = await difference(git_diff, self._roots, self._around, self._scratch)
            except Unreadable as error:
                raise basket.refusal(f"git_diff: {error.reason}.", error.action) from None
            basket.add(Part(name=name, mime_type="text/x-diff", text=text))
        if attachments:
            await asyncio.to_thread(_attach, attachments, basket)

    def _read(self, files: Sequence[str], basket: _Basket) -> None:
        for path in files:
            try:
                basket.add_content(path, self._roots.read(path, FILE_LIMIT), None)
            except Unreadable as error:
                raise basket.refusal(f'"{shown(path)}" {error.reason}.', error.action) from None


def _attach(attachments: Sequence[Attachment], basket: _Basket) -> None:
    for given in attachments:
        try:
            basket.add_attachment(given)
        except Unreadable as error:
            raise basket.refusal(f'attachments: "{shown(given.name)}" {error.reason}.', error.action) from None


def _size(given: Attachment) -> int:
    return len(given.data or b"") + len((given.text or "").encode("utf-8", "surrogatepass"))


class _Basket:
    """What has been gathered, within the bounds of one prompt."""

    def __init__(self, provider: str, takes: Collection[str]) -> None:
        self.parts: list[Part] = []
        self._provider = provider
        self._takes = takes
        self._text = TEXT_LIMIT
        self._data = DATA_LIMIT

    def add_attachment(self, given: Attachment) -> None:
        """Take what a client sent, by the same rules as a file. Raises Unreadable, InvalidRequest."""
        if any_refused(["", *given.name.split("/")]):
            raise Unreadable(*REFUSED)
        if given.text is None:
            self.add_content(given.name, given.data or b"", given.mime_type)
        elif holds_secret(given.text.encode()):
            raise Unreadable(*SECRET)
        else:
            self.add(Part(name=given.name, mime_type=given.mime_type, text=given.text))

    def add_content(self, name: str, data: bytes, said: str | None) -> None:
        """Take bytes for what they are; `said`: the type that their sender gave. Raises Unreadable, InvalidRequest."""
        found = kind(data)
        text = text_of(data) if found is None else None
        if found is None and text is None:
            raise Unreadable("is no text, image or PDF by its content", _OTHER_KIND)
        if said is not None and (said != found if text is None else not is_text_type(said)):
            raise Unreadable(f"is {found or 'a text'} by its content and not {said}", "Give its true mime_type.")
        if holds_secret(data):
            raise Unreadable(*SECRET)
        if found is not None and found not in self._takes:
            others = [BINARY[known] for known in BINARY if known in self._takes]
            raise Unreadable(
                f"is of a kind ({found}) that {self._provider} does not take",
                f"Leave it out: {self._provider} takes {', '.join(['texts', *others])}.",
            )
        if found is not None and not is_whole(found, data):
            raise Unreadable(f"is no whole file of its kind ({found})", "Send it whole; it may have been cut off.")
        self.add(Part(name=name, mime_type=found or said or "text/plain", text=text, data=data if found else None))

    def add(self, part: Part) -> None:
        """Take a part, if it fits in. Raises InvalidRequest."""
        self._text -= len(part.text or "")
        self._data -= len(part.data or b"")
        if self._text < 0:
            raise self.refusal(
                f'With "{shown(part.name)}" the texts are longer than {TEXT_LIMIT:,} characters.',
                "Name fewer files, or fewer `paths` of the diff.",
            )
        if self._data < 0:
            raise self.refusal(
                f'With "{shown(part.name)}" images and PDF files are larger than {DATA_LIMIT // 1_000_000} MB.',
                "Name fewer of them.",
            )
        self.parts.append(part)

    def refusal(self, message: str, action: str) -> InvalidRequest:
        return InvalidRequest(message, action=action, provider=self._provider)


def attachment(
    name: str, mime_type: str, text: str | None, data_base64: str | None, provider: str | None
) -> Attachment:
    """An attachment from what a client sent. Raises InvalidRequest, which names it and holds nothing of its content."""

    def refusal(reason: str, action: str) -> InvalidRequest:
        return InvalidRequest(f'attachments: "{shown(name)}" {reason}.', action=action, provider=provider)

    if not name.strip() or len(name) > NAME_LIMIT or not is_one_line(name):
        raise refusal(
            "is no name", f"Give a name of 1 to {NAME_LIMIT} characters, without line ends and control characters."
        )
    if (text is None) == (data_base64 is None):
        raise refusal("has both text and data, or neither", "Give text, or data in base64.")
    kept = mime_type.partition(";")[0].strip().lower()
    kept = "image/jpeg" if kept == "image/jpg" else kept
    binary = kept in BINARY and data_base64 is not None
    if not binary and not is_text_type(kept):
        raise refusal(
            "has a mime_type that is not taken", f"Give text with text/plain, or data with {', '.join(BINARY)}."
        )
    if text is not None:
        if whole(text) != text or "\0" in text:
            raise refusal("is no text: it holds NUL or half of a character", "Remove it.")
        return Attachment(name, kept, text, None)
    assert data_base64 is not None
    if len(data_base64) > ATTACHMENTS_LIMIT * 4 // 3 + 4:
        raise refusal(f"is larger than {ATTACHMENTS_LIMIT // 1_000_000} MB", "Send a smaller one, or a part of it.")
    try:
        data = base64.b64decode(data_base64, validate=True)
    except (binascii.Error, ValueError):
        raise refusal(
            "has data that is not base64", "Give plain base64: the standard alphabet, padded, in one line."
        ) from None
    return Attachment(name, kept, None, data)


def default_roots(around: Mapping[str, str], cwd: Path | None, home: Path) -> tuple[Path, ...]:
    """Where files may be read over stdio when nobody has said so: the project that the client is in, or nowhere.

    CLAUDE_PROJECT_DIR, else the working directory (None: it is gone) when it is in a git work tree. Never the home or
    a folder above it: an editor that was started there has no project, and all that the owner has would be open.
    """
    whole_life = os.path.realpath(home)

    def is_project(folder: Path) -> bool:
        with contextlib.suppress(OSError):  # below a folder that this user may not enter
            below = Path(whole_life).is_relative_to(os.path.realpath(folder))
            return folder.is_absolute() and folder.is_dir() and not below
        return False

    named = Path(around.get("CLAUDE_PROJECT_DIR") or ".")
    if is_project(named):
        return (named,)
    if cwd is not None and is_project(cwd) and work_tree(str(cwd)) is not None:
        return (cwd,)
    return ()
