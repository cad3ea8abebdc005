"""What may be put before a prompt: which names, which contents, which kinds. Pure; it opens nothing.

A name is refused wherever it stands in a path, in any case and in any spelling that a file system may take for the
same (compatibility forms, characters of no width). The lists are of what is a login or a key by its common name; what
is one under another name is told by its content.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import translate
from itertools import pairwise

FILE_LIMIT = 10_000_000
"""Bytes of one file."""
TEXT_LIMIT = 2_000_000
"""Characters of all texts before one prompt."""

SECRET = ("holds a key or a login", "Remove it from there, or put what matters of it into the prompt.")

_NAMES = (
    *(".git", ".env*", "*.env", ".netrc", "_netrc", ".npmrc", ".yarnrc*", ".pypirc", ".pgpass", ".my.cnf", ".htpasswd"),
    *(".git-credentials", ".dockercfg", ".vault-token", ".s3cfg", ".boto", ".claude.json", "kubeconfig"),
    *("credentials.json", "oauth_creds.json", "google_accounts.json", "application_default_credentials.json"),
    *("client_secret*.json", "service-account*.json", "service_account*.json"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_xmss*", "*.pem", "*.key", "*.p8", "*.p12", "*.pfx"),
    *("*.ppk", "*.jks", "*.keystore", "*.kdb", "*.kdbx", "*.keychain", "*.keychain-db", "*.agekey"),
    *(".ssh", ".gnupg", ".aws", ".azure", ".kube", ".claude", ".gemini", ".codex", ".password-store", "keyrings"),
    *(".mozilla", ".thunderbird", "shadow", "shadow-", "gshadow", "gshadow-"),
)
_REFUSED = re.compile("|".join(translate(pattern) for pattern in _NAMES))
_BELOW = {
    ".config": ("gcloud", "gh", "glab-cli", "op", "rclone", "chromium", "google-chrome", "llm-mcp-hub", "git"),
    ".docker": ("config.json",),
    ".cargo": ("credentials", "credentials.toml"),
    ".gem": ("credentials",),
    ".m2": ("settings.xml", "settings-security.xml"),
    ".terraform.d": ("credentials.tfrc.json",),
    "containers": ("auth.json",),
    "state": ("llm-mcp-hub",),
    "application support": ("llm-mcp-hub", "google", "firefox"),
}
"""Names that are logins only in that folder: a checkout of this project may be called `llm-mcp-hub`."""

_SECRETS = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"|PuTTY-User-Key-File-\d"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{20}"
    r"|\bsk-ant-[\w-]{12}"
    r"|\bya29\.[\w-]{20}"
    r'|"refresh_token"\s*:\s*"1//'
    r"|\b(?:gh[pousr]_\w{36}|github_pat_\w{40})",
    re.ASCII,
)
_HINTS = ("PRIVATE KEY", "PuTTY-User", "AGE-SECRET", "sk-ant-", "ya29.", "refresh_token", "github_pat_",
          *(f"gh{kind}_" for kind in "pousr"))  # fmt: skip
"""One of these is in each of them. Looked for first: the expression takes half a second for ten megabytes."""

BINARY = {
    "image/png": "PNG images",
    "image/jpeg": "JPEG images",
    "image/webp": "WebP images",
    "image/gif": "GIF images",
    "application/pdf": "PDF files",
}
"""The kinds that are handed on as they are, and how they are called."""

_TEXT_TYPES = re.compile(
    r"text/[\w.+-]+|[\w.-]+/[\w.+-]+\+(?:json|xml|yaml)|application/(?:x-)?(?:json|jsonl|ndjson|xml|yaml|toml|sql|sh|"
    r"shellscript|javascript|ecmascript|typescript|python|perl|ruby|php|httpd-php|tex|latex|graphql|csv|diff|patch)"
)


class Unreadable(Exception):
    """Why something is not put before a prompt, without its name: whoever knows the name tells the caller."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action


def refused(folder: str, name: str) -> bool:
    """Whether a path may not go through `name` in `folder`, two names without separators."""
    plain = _plain(name)
    return _REFUSED.fullmatch(plain) is not None or plain in _BELOW.get(_plain(folder), ())


def any_refused(names: Sequence[str]) -> bool:
    """Whether a path of these names, from its second one on, goes through a refused one."""
    return any(refused(folder, name) for folder, name in pairwise(names))


def _plain(name: str) -> str:
    visible = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return visible.casefold().rstrip(". ")  # some network file systems drop these at a name's end


def holds_secret(data: bytes) -> bool:
    """Whether there is a private key or a login of a well-known form in it, in text or between other bytes."""
    text = text_of(data)
    text = data.decode("latin-1") if text is None else text
    return any(hint in text for hint in _HINTS) and _SECRETS.search(text) is not None


def kind(data: bytes) -> str | None:
    """The MIME type by the first bytes, None if it is none of `BINARY`."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"%PDF-"):
        return "application/pdf"
    return None


def is_whole(mime_type: str, data: bytes) -> bool:
    """Whether data of one of `BINARY` has its head and its end. What lacks them a CLI may leave out in silence.

    Claude Code 2.1.330 sends a sentence in the place of a picture that it cannot read.
    """
    match mime_type:
        case "image/png":
            return data[12:16] == b"IHDR" and b"IEND" in data[16:]
        case "image/jpeg":
            return b"\xff\xd9" in data[3:]
        case "image/webp":
            return data[12:15] == b"VP8" and int.from_bytes(data[4:8], "little") + 8 <= len(data)
        case "image/gif":
            return b";" in data[13:]
        case _:
            return b"%%EOF" in data


def text_of(data: bytes) -> str | None:
    """The text that the bytes are: UTF-8, or UTF-16 that says so; without its mark. None if they are no text."""
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def is_text_type(mime_type: str) -> bool:
    """Whether a MIME type is one of texts."""
    return _TEXT_TYPES.fullmatch(mime_type) is not None


def is_one_line(name: str) -> bool:
    """Whether a name can stand on a line of its own: nothing in it controls, ends a line, or is half of a character."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def shown(name: str) -> str:
    """A name as an error or a list may show it: on one line, at most 100 characters, nothing that steers a terminal."""
    hidden = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
    short = name if len(name) <= 100 else f"{name[:40]}…{name[-59:]}"
    return "".join("\ufffd" if unicodedata.category(c) in hidden else c for c in short)
