"""Every setting, typed. The process environment itself is read by `children/environment.py` alone.

Order: the environment, then `--env-file FILE`, else `llm-mcp-hub/.env` in the user's configuration folder. Never a
file of the working directory: an editor starts the hub inside whatever project is open, and a cloned repository must
not steer it. A secret may be given as `NAME_FILE`, the path of a file that holds it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from llm_mcp_hub import env_text, misspelt, others
from llm_mcp_hub.children.environment import surroundings
from llm_mcp_hub.errors import Misconfigured

APP = "llm-mcp-hub"
SECRETS = ("CLAUDE_CODE_OAUTH_TOKEN", "REDIS_URL", "HUB_ALERT_WEBHOOK_URL", "HUB_ALERT_WEBHOOK_SECRET", "HUB_STATE_KEY")
"""These may be given as NAME_FILE."""


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own, which no other one reaches."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# By form, not by a parser: the CLIs read the address again with theirs, and parsers disagree about what the host of
# `http://:@one\@two` is.
_LOOPBACK_URL = re.compile(r"http://(?P<host>localhost|[0-9.]+|\[[0-9a-f:]+\])(?::(?P<port>[0-9]{1,5}))?/?")


def _loopback_url(value: str) -> str:
    found = _LOOPBACK_URL.fullmatch(value)
    if found is None or not is_loopback(found["host"].strip("[]")) or int(found["port"] or 80) > 65_535:
        raise ValueError("must be an http:// address on loopback; it exists for tests only")
    return value


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:  # whose text would show the value
        raise ValueError("must be a day, such as 2026-11-23") from None
    if not 2020 <= moment.year < 2100:
        raise ValueError("must be a day of our time, such as 2026-11-23")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _path(value: str | Path) -> Path:
    if "\0" in str(value):  # an env file may hold it
        raise ValueError("must be a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("begins with the home folder of a user that does not exist") from None


def _absolute(value: Path) -> Path:
    path = _path(value)
    if not path.is_absolute():
        raise ValueError("must be an absolute path, for the folder that a hub is started in says nothing")
    return path


def _paths(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    roots = tuple(_path(part) for part in value.split(os.pathsep) if part)
    if not all(root.is_absolute() for root in roots):
        raise ValueError("must be absolute paths, for the folder that a hub is started in says nothing")
    return roots


_PORT = r"(?::(?:[0-9]{1,5}|\*))?"
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])" + _PORT)
_ORIGIN = re.compile(r"https?://" + _HOST.pattern)


def _hosts(value: Any) -> Any:
    return _listed(value, _HOST, "host names as they stand in an address, such as hub.example or hub.example:8443")


def _origins(value: Any) -> Any:
    return _listed(value, _ORIGIN, "origins such as https://pages.example")


def _listed(value: Any, form: re.Pattern[str], what: str) -> Any:
    if not isinstance(value, str):
        return value
    names = tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
    if not all(form.fullmatch(name) for name in names):
        raise ValueError(f"must be {what}, separated by commas; the only wildcard is that of a port")
    return names


def _redis_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return value


KEY_BYTES = 32


def _keys(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"[\s,]+", text.strip(" \t\r\n,"))) if text.strip(" \t\r\n,") else ()


def _state_key(value: SecretStr | None) -> SecretStr | None:
    keys = () if value is None else _keys(value.get_secret_value())
    if value is not None and not (
        keys and all(len(key.encode("utf-8", "surrogateescape")) >= KEY_BYTES for key in keys)
    ):
        raise ValueError(f"must be {KEY_BYTES} bytes of text or more, or several such keys separated by commas")
    return value


_NO_WEBHOOK = "must be an https:// address, or an http:// one on loopback"


def _webhook(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    try:  # here, and not in pydantic's hands: what urlsplit complains of, it quotes
        address = urlsplit(value.get_secret_value())
        host, _port = address.hostname, address.port
    except ValueError:
        raise ValueError(_NO_WEBHOOK) from None
    if not host or not (address.scheme == "https" or (address.scheme == "http" and is_loopback(host))):
        raise ValueError(_NO_WEBHOOK)
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


LoopbackUrl = Annotated[str, AfterValidator(_loopback_url)]
UserPath = Annotated[Path, AfterValidator(_absolute)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseModel):
    """The settings by their variables' names in lower case; units in the name's end, counts where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    claude_code_oauth_token: SecretStr | None = None
    claude_model: str = "sonnet"
    claude_token_issued_at: Annotated[datetime | None, BeforeValidator(_moment)] = None
    gemini_auth_path: UserPath = Field(default_factory=lambda: Path.home() / ".gemini" / "oauth_creds.json")
    gemini_model: str = "gemini-2.5-pro"
    gemini_project: str | None = None
    redis_url: Annotated[SecretStr | None, AfterValidator(_redis_url)] = None
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    hub_log_format: Literal["json", "console"] | None = None
    hub_host: str = "127.0.0.1"
    hub_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    hub_clients_file: UserPath | None = None
    hub_first_client: str | None = None
    hub_allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_hosts)] = ()
    hub_allowed_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = ()
    hub_state_key: Annotated[SecretStr | None, AfterValidator(_state_key)] = None
    hub_state_dir: UserPath = Field(default_factory=lambda: platformdirs.user_state_path(APP))
    hub_ask_timeout_s: Annotated[float, Field(ge=1, le=3600)] = 600
    hub_first_text_timeout_s: Seconds = 300
    hub_idle_timeout_s: Seconds = 120
    hub_claude_concurrency: Annotated[int, Field(ge=1, le=1000)] = 4
    hub_gemini_concurrency: Annotated[int, Field(ge=1, le=1000)] = 32
    hub_claude_warm: Annotated[int, Field(ge=0, le=16)] = 1
    hub_gemini_warm: bool = True
    hub_queue_limit: Annotated[int, Field(ge=0, le=100_000)] = 64
    hub_retention_days: Annotated[float, Field(gt=0, le=3650)] = 7
    hub_wait_s: Annotated[float | None, Field(ge=0, le=3600)] = None
    hub_file_roots: Annotated[tuple[Path, ...] | None, BeforeValidator(_paths)] = None
    hub_drain_s: Annotated[float, Field(ge=0, le=3600)] = 25
    hub_alert_days: Annotated[float, Field(ge=0, le=365)] = 3
    hub_alert_webhook_url: Annotated[SecretStr | None, AfterValidator(_webhook)] = None
    hub_alert_webhook_secret: Annotated[SecretStr | None, Field(min_length=16)] = None
    hub_allow_overage: bool = False
    hub_gemini_command: str = "gemini"
    hub_claude_upstream: LoopbackUrl | None = None
    hub_gemini_upstream: LoopbackUrl | None = None

    _files: dict[str, str] = PrivateAttr(default_factory=dict[str, str])
    """Which secrets were read from which files, by the variables' names."""

    def remember(self, files: Mapping[str, str]) -> None:
        """Note which secrets stand in which files, so that they can be read again."""
        self._files.update(files)

    def secret(self, name: str) -> str | None:
        """A secret as it is now: one that stands in a file is read again. Raises Misconfigured."""
        if name in self._files:
            return _secret_from(f"{name}_FILE", self._files[name])
        held: SecretStr | None = getattr(self, name.lower())
        return held.get_secret_value() if held is not None else None

    def origin(self, name: str) -> str:
        """The variable that a secret came from: its own, or that of its file."""
        return f"{name}_FILE" if name in self._files else name

    def secrets(self) -> list[str]:
        """Every secret, for those who must keep them out of what they write."""
        held = (getattr(self, name.lower()) for name in SECRETS)
        return [*(secret.get_secret_value() for secret in held if secret is not None), *self.state_keys]

    @property
    def state_keys(self) -> tuple[str, ...]:
        """What replicas seal with, the one for new seals first; none where this hub is no replica."""
        return () if self.hub_state_key is None else _keys(self.hub_state_key.get_secret_value())

    @property
    def clients_file(self) -> Path:
        """Where the clients' tokens are kept."""
        return self.hub_clients_file or self.hub_state_dir / "clients.json"

    @property
    def loopback_only(self) -> bool:
        """Whether the HTTP address can be reached from this machine alone."""
        return is_loopback(self.hub_host)


class Source(NamedTuple):
    """A file that settings come from: what made the hub read it, and whether it holds a secret."""

    name: str
    path: Path
    secret: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """The settings as far as they can be used, what is wrong with the others, and the files that were read."""

    settings: Settings
    wrong: tuple[Misconfigured, ...]
    sources: tuple[Source, ...]
    mistyped: tuple[tuple[str, str], ...] = ()
    """Names that are no setting's and look like one's, each with that setting; nobody reads them."""
    unread: tuple[str, ...] = ()
    """Where in the settings file something stands that is no setting."""

    def usable(self) -> Settings:
        """The settings, if nothing is wrong with any. Raises Misconfigured."""
        for error in self.wrong:
            raise error
        return self.settings

    def odd(self) -> list[str]:
        """What nobody reads, a sentence each."""
        names = [f"{name} is no setting, so it does nothing; did you mean {meant}?" for name, meant in self.mistyped]
        return [*names, *(f"{where} is no NAME=VALUE, so it does nothing." for where in self.unread)]


def load(env_file: Path | None = None, around: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        env_file: a file of NAME=VALUE lines named by the user; it must exist.
        around: the environment; the process's own by default.

    Raises Misconfigured, which names the variable and never its value.
    """
    return examine(env_file, around).usable()


def examine(env_file: Path | None = None, around: Mapping[str, str] | None = None) -> Examined:
    """Read the settings as `load` does, and go on where it would raise: a setting that is wrong has its default."""
    wrong: list[Misconfigured] = []
    sources: list[Source] = []
    layers = [dict(surroundings() if around is None else around)]
    unread: tuple[str, ...] = ()
    try:
        read, unread = _from_file(env_file)
        layers.append(read)
    except Misconfigured as error:
        wrong.append(error)
    else:
        file = env_file or own_file()
        if env_file is not None or file.exists():
            holds = any(layers[-1].get(name) for name in SECRETS)
            sources.append(Source("--env-file" if env_file else "settings file", file, holds))
    values: dict[str, str] = {}
    files: dict[str, str] = {}
    for field in Settings.model_fields:
        name = field.upper()
        for layer in layers:
            value = layer.get(name)
            if not value and name in SECRETS and (path := layer.get(f"{name}_FILE")):
                try:
                    value = _filled(f"{name}_FILE", path)
                except Misconfigured as error:
                    wrong.append(error)
                    break
                files[name] = path
                sources.append(Source(f"{name}_FILE", Path(path).expanduser(), secret=True))
            if value:
                values[field] = value
                break
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            field = str(each["loc"][0])
            values.pop(field, None)
            files.pop(field.upper(), None)
            reason = (
                each["msg"].removeprefix("Value error, ").replace("Input should be", "must be").split(", unable")[0]
            )
            if each["type"] == "too_short":  # of which pydantic speaks as of a list's items
                reason = f"must have {each.get('ctx', {}).get('min_length')} characters or more"
            wrong.append(Misconfigured(f"{field.upper()} is not usable: {reason}.", action=f"Correct {field.upper()}."))
        settings = Settings.model_validate(values)
    settings.remember(files)
    known = [field.upper() for field in Settings.model_fields] + [f"{name}_FILE" for name in SECRETS]
    return Examined(settings, tuple(wrong), tuple(sources), misspelt.names(layers, known), unread)


def own_file() -> Path:
    """The settings file that is read where none is named; whether it is there or not."""
    return platformdirs.user_config_path(APP) / ".env"


def _from_file(env_file: Path | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the settings file says, and where it says nothing that could be read."""
    file = env_file or own_file()
    try:
        if env_file is None:
            if not file.exists():
                return {}, ()
            if others.can_write(file.stat().st_mode):
                raise Misconfigured(
                    f"{file} can be written by others, so its settings are not used.",
                    action=f"Run: chmod 600 {shlex.quote(str(file))}",
                )
        with file.open(encoding="utf-8-sig") as lines:  # opened here: dotenv takes a folder for an empty file
            values, faults = env_text.parsed(lines)
    except (OSError, env_text.Unreadable) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Misconfigured(
            f"The settings file {file} cannot be read ({why}).", action="Name a readable file with --env-file."
        ) from error
    if faults and not values:
        raise Misconfigured(
            f"{file} is no settings file: it has no line NAME=VALUE.", action="Name another one with --env-file."
        )
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    unread = (f"{file}, line {faults[0]}{more},",) if faults else ()
    return values, unread


def _filled(name: str, path: str) -> str:
    """For the start: an empty one is a mistake, and nothing is taken in its place."""
    secret = _secret_from(name, path)
    if not secret:
        raise Misconfigured(f"The file that {name} names is empty.", action=f"Write the secret into it: {path}")
    return secret


def _secret_from(name: str, path: str) -> str:
    why: Exception | None = None
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig") as file:
            text = file.read(env_text.MOST_CHARS + 1)
        if len(text) <= env_text.MOST_CHARS:  # `/dev/zero` has no end
            return text.strip()
    except (OSError, ValueError, RuntimeError) as error:  # no UTF-8, NUL in the path; `~` of nobody
        why = error
    raise Misconfigured(
        f"The file that {name} names cannot be read.", action=f"Make {name} the path of a readable file."
    ) from why
