"""Builds the package as its users get it, and what it needs as wheels that hold nothing but a way to this suite's own.

An installer resolves, unpacks and makes programs as ever; what takes time, 365 MB of a CLI, is used from where it is.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

from tests.harness import DEADLINE_S

SITE = Path(sysconfig.get_path("purelib"))
VERSION = version("llm-mcp-hub")


def build(kind: str, source: Path, folder: Path) -> Path:
    """An sdist or a wheel of the sources in `source`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    [made] = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def unpacked(sdist: Path, folder: Path) -> Path:
    """The folder that an sdist holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [held] = folder.iterdir()
    return held


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def stubs(folder: Path) -> Path:
    """A wheel for each library that the hub asks for, of its version here; one of them leads to the real ones."""
    folder.mkdir()
    for number, text in enumerate(requires("llm-mcp-hub") or ()):
        name = Requirement(text).name
        _stub(folder, name, version(name), {"of-the-suite.pth": f"{SITE}\n".encode()} if number == 0 else {})
    return folder


def _stub(folder: Path, name: str, number: str, files: dict[str, bytes]) -> None:
    distribution = f"{name.replace('-', '_')}-{number}"
    about = f"{distribution}.dist-info"
    files = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{file},sha256={_digest(content)},{len(content)}" for file, content in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*rows, f"{about}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(folder / f"{distribution}-py3-none-any.whl", "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
