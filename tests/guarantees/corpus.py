"""The hostile prompts of `prompts.json`: a text each, or one that is repeated. Adding one there is all it takes.

`arrive` must reach the model character for character, `refused` must end in `invalid_request` with nothing sent.
`<<home>>`, `<<cwd>>` and `<<state>>` stand for folders of the world that a prompt is put in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

_FILE = Path(__file__).with_name("prompts.json")


def prompts(kind: Literal["arrive", "refused"]) -> dict[str, str]:
    """Prompts by `group: name`."""
    groups: Mapping[str, Mapping[str, Any]] = json.loads(_FILE.read_text("utf-8"))[kind]
    return {f"{group}: {name}": _text(given) for group, named in groups.items() for name, given in named.items()}


def placed(prompt: str, folders: Mapping[str, Path]) -> str:
    """The prompt as it is put in a world."""
    for name, folder in folders.items():
        prompt = prompt.replace(f"<<{name}>>", str(folder))
    return prompt


def _text(given: Any) -> str:
    if isinstance(given, str):
        return given
    return given["repeat"] * given["times"] + given.get("after", "")
