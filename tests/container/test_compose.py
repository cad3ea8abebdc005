"""compose.yaml by its schema and by what an owner relies on: nothing published by chance, nothing privileged."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from ruamel.yaml import YAML

from llm_mcp_hub.errors import Misconfigured
from llm_mcp_hub.settings import Settings, load
from tests.container.test_dockerfile import environment, instructions
from tests.harness import DEADLINE_S, ROOT
from tests.upstreams import nginx

FILE = ROOT / "compose.yaml"
NGINX = ROOT / "examples" / "nginx"


@cache
def compose() -> dict[str, Any]:
    return cast("dict[str, Any]", YAML(typ="safe").load(FILE))  # pyright: ignore[reportUnknownMemberType]


SERVICES: dict[str, dict[str, Any]] = compose()["services"]
HUBS = {name: service for name, service in SERVICES.items() if name.startswith("llm-hub")}


def defaults(value: str) -> str:
    """What a text is where no variable is set: `${NAME:-this}`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_it_is_a_compose_file() -> None:
    """By the schema of the Compose Specification, and without the `version` that it calls obsolete."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "version" not in compose()


def test_without_a_profile_there_are_the_hub_and_its_redis() -> None:
    """What `docker compose up` starts for one owner."""
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"llm-hub", "redis"}
    assert SERVICES["llm-hub"]["image"] == "${HUB_IMAGE:-llm-mcp-hub:latest}"
    assert "command" not in SERVICES["llm-hub"], "the image's own: it serves, and makes the first client"


def test_nothing_is_published_but_on_loopback() -> None:
    """A port that only its owner can reach, unless a variable says otherwise; Redis has none."""
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}

    assert ports["llm-hub"] == ["${HUB_PUBLISH:-127.0.0.1}:8000:8000"]
    assert ports["redis"] == ports["llm-hub-2"] == []
    assert all(defaults(port).startswith("127.0.0.1:") for published in ports.values() for port in published)


def test_redis_is_reached_by_hubs_alone() -> None:
    """It has no password: its network has no way out and no other member."""
    assert compose()["networks"]["store"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == ["store"]
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {"redis", *HUBS}
    assert "noeviction" in SERVICES["redis"]["command"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_what_it_does_not_need(name: str) -> None:
    """No capability, no new privilege, no root, no writable root, bounded memory and processes, looked after."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert defaults(service["user"]).partition(":")[0] not in {"", "0", "root"}
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service) == set()
    assert "healthcheck" in service or (name in HUBS and any(word == "HEALTHCHECK" for word, _ in instructions()))
    assert service["restart"] == "unless-stopped"
    assert "docker.sock" not in str(service)


def test_no_secret_stands_in_it() -> None:
    """Variables that hold one are handed on, never given a value here; what takes a key's place is none."""
    given = {
        (name, variable): value
        for name, service in SERVICES.items()
        for variable, value in service.get("environment", {}).items()
        if re.search("TOKEN|KEY|SECRET|PASSWORD", variable)
    }
    filled = {defaults(value) for value in given.values()} - {""}

    assert len(given) == 2 * len(HUBS)
    assert filled == {"missing"}
    with pytest.raises(Misconfigured, match="HUB_STATE_KEY"):
        load(around={"HUB_STATE_KEY": "missing", "HOME": "/"})


def test_a_hub_and_what_stands_before_it_have_time_to_end() -> None:
    """Docker kills what has not ended: that must come after the asks' own time. A proxy is stopped before its hubs."""
    least = Settings().hub_drain_s + 20
    proxies = [service for service in SERVICES.values() if "nginx" in service["image"]]

    assert len(proxies) == 2
    for service in (*HUBS.values(), *proxies):
        assert float(service["stop_grace_period"].removesuffix("s")) >= least
    assert {service["stop_signal"] for service in proxies} == {"SIGQUIT"}


def test_the_owners_login_is_mounted_read_only_where_the_image_looks() -> None:
    """And a missing folder is not made, as root's, in the owner's home."""
    for hub in HUBS.values():
        volumes: list[Any] = hub["volumes"]
        (login,) = (volume for volume in volumes if not isinstance(volume, str))

        assert login["source"] == "${GEMINI_DIR:-~/.gemini}"
        assert login["read_only"] is True
        assert login["bind"] == {"create_host_path": False}
        assert environment()["GEMINI_AUTH_PATH"] == f"{login['target']}/oauth_creds.json"
        assert defaults(hub["user"]) == "1000:1000"


def test_what_it_sets_is_what_the_image_expects() -> None:
    """The paths of the image, not those of an owner's .env for a hub outside of it; the state in a volume."""
    volume = next(words for word, words in instructions() if word == "VOLUME")
    for hub in HUBS.values():
        settings: dict[str, str] = hub["environment"]
        same = {"GEMINI_AUTH_PATH", "HUB_HOST", "HUB_PORT", "HUB_STATE_DIR", "HUB_GEMINI_COMMAND"}

        assert {name: settings[name] for name in same} == {name: environment()[name] for name in same}
        assert defaults(settings["HUB_ALLOWED_HOSTS"]) == environment()["HUB_ALLOWED_HOSTS"]
        assert f"state:{volume}" in hub["volumes"]
        assert any(place.startswith("/tmp:") for place in hub["tmpfs"])
        assert hub["env_file"] == [{"path": ".env", "required": False}]


# -- the proxies -------------------------------------------------------------------------------------------------------


def rules(text: str) -> str:
    """A configuration of nginx without comments."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


OWN_LINES = re.compile(r"(?:server (?:hub|127\.)|zone |resolver |listen |server_name |ssl_).*")


@pytest.mark.parametrize("name", ["compose.conf", "compose-tls.conf"])
def test_the_proxies_go_by_the_rules_of_the_example(name: str) -> None:
    """The ones that the replicas' tests run: nothing differs but where it listens and where the hubs are."""
    told, tried = (rules((NGINX / file).read_text()).splitlines() for file in (name, "llm-mcp-hub.conf"))

    assert [line for line in told if not OWN_LINES.fullmatch(line)] == [
        line for line in tried if not OWN_LINES.fullmatch(line)
    ]
    assert f"/examples/nginx/{name}:/etc/nginx/conf.d/default.conf:ro" in str(SERVICES)


@pytest.mark.parametrize("name", ["compose.conf", "compose-tls.conf"])
def test_nginx_takes_their_configuration(name: str, tmp_path: Path) -> None:
    """A real one; what needs a newer nginx, and names of the compose network, have other words here."""
    text = (NGINX / name).read_text().replace(" resolve ", " ").replace("hub:8000", "127.0.0.1:8000")
    text = re.sub(r"^ *resolver .*$", "", text, flags=re.MULTILINE).replace("/certs/", f"{tmp_path}/")
    certificate = trustme.CA().issue_cert("hub.example")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "fullchain.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "hub.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {places} access_log off; include hub.conf; }}"
    )
    done = subprocess.run(
        [nginx.program(), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
