"""A child on a pseudo-terminal: bytes through unchanged, every kind of end, nothing left over. With real children."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from llm_mcp_hub.children.terminal import Terminal, TerminalError
from llm_mcp_hub.providers.gemini_child import no_terminal

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
MEGABYTE = 1 << 20
EVERY_BYTE = bytes(range(256))
T = TypeVar("T")

Spawn = Callable[..., Terminal]


async def within(work: Awaitable[T]) -> T:
    """`work`, or a failure: no test may hang."""
    async with asyncio.timeout(DEADLINE_S):
        return await work


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncGenerator[Spawn]:
    """Starts children on terminals; at the end none of them lives."""
    started: list[Terminal] = []

    def start(*command: str, **environment: str) -> Terminal:
        terminal = Terminal.spawn(
            command,
            environment={"PATH": os.environ["PATH"], **environment},
            cwd=tmp_path,
            stderr=tmp_path / "stderr",
            columns=200,
        )
        started.append(terminal)
        return terminal

    yield start
    for terminal in started:
        terminal.kill()
    assert [t.pid for t in started if psutil.pid_exists(t.pid)] == []


def python(script: str) -> tuple[str, str, str]:
    return sys.executable, "-c", script


async def read_all(terminal: Terminal) -> bytes:
    """To the end of the child."""
    parts: list[bytes] = []
    while data := await terminal.read():
        parts.append(data)
    return b"".join(parts)


async def read_until(terminal: Terminal, size: int) -> bytes:
    """At least `size` bytes."""
    read = b""
    while len(read) < size:
        data = await terminal.read()
        assert data, f"the child ended after {len(read)} of {size} bytes"
        read += data
    return read


CAT = ("/bin/cat",)


# -- bytes -------------------------------------------------------------------------------------------------------------


async def test_a_megabyte_of_every_byte_passes_both_ways_unchanged(spawn: Spawn) -> None:
    """Raw: no echo, no line editing, no end at Ctrl-D, no CR before LF, no 4,096 bytes a line."""
    terminal = spawn(*CAT)
    data = EVERY_BYTE * (MEGABYTE // 256)

    _, read = await within(asyncio.gather(terminal.write(data), read_until(terminal, len(data))))

    assert read == data


async def test_bytes_come_as_they_are_written(spawn: Spawn) -> None:
    """An answer streams: what the child has written is there before it writes more."""
    terminal = spawn(*CAT)

    for piece in (b"one", b"\n", b"\x03\x04\x1a"):
        await within(terminal.write(piece))
        assert await within(read_until(terminal, len(piece))) == piece


async def test_nothing_may_be_written(spawn: Spawn) -> None:
    """And hinders nobody."""
    terminal = spawn(*CAT)

    await within(terminal.write(b""))
    await within(terminal.write(b"x"))

    assert await within(terminal.read()) == b"x"


async def test_two_writers_do_not_tear_each_others_lines(spawn: Spawn) -> None:
    """A line of the protocol is one write; torn, neither of the two could be read."""
    terminal = spawn(*CAT)
    size = 300_000

    *_, read = await within(
        asyncio.gather(terminal.write(b"a" * size), terminal.write(b"b" * size), read_until(terminal, 2 * size))
    )

    assert read == b"a" * size + b"b" * size


async def test_a_cancelled_write_is_sent_to_its_end(spawn: Spawn) -> None:
    """Half a line would poison the next one."""
    terminal = spawn(*CAT)
    writing = asyncio.ensure_future(terminal.write(b"a" * MEGABYTE))
    first = await within(terminal.read())
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    _, rest = await within(asyncio.gather(terminal.write(b"b"), read_until(terminal, MEGABYTE + 1 - len(first))))

    assert writing.cancelled()
    assert first + rest == b"a" * MEGABYTE + b"b"


async def test_a_cancelled_read_loses_nothing(spawn: Spawn) -> None:
    """A deadline that ends a read must not eat the bytes that come next."""
    terminal = spawn(*CAT)
    reading = asyncio.ensure_future(terminal.read())
    await asyncio.sleep(0)  # it waits now
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    await within(terminal.write(b"x"))

    assert await within(terminal.read()) == b"x"


# -- what the child is given -------------------------------------------------------------------------------------------


async def test_the_child_gets_its_surroundings_and_no_more(spawn: Spawn, tmp_path: Path) -> None:
    """Environment, working folder and width are what was asked for; ours are not inherited."""
    script = "import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.get_terminal_size()]), flush=True)"
    terminal = spawn(*python(script), MADE_UP="x")

    environment, cwd, size = json.loads(await within(read_all(terminal)))

    by_the_shell = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert {k: v for k, v in environment.items() if k not in by_the_shell} == {
        "PATH": os.environ["PATH"],
        "MADE_UP": "x",
    }
    assert cwd == str(tmp_path)
    assert size == [200, 50]


async def test_no_file_of_ours_is_open_in_the_child(spawn: Spawn) -> None:
    """A descriptor that it inherits could be the store's, a lock, or another child's terminal."""
    other = spawn(*CAT)
    terminal = spawn(*python("import os; print(*sorted(os.listdir('/proc/self/fd')), flush=True)"))

    assert (await within(read_all(terminal))).split() == [b"0", b"1", b"2", b"3"]  # the last is the listing itself
    assert not other.ended


async def test_complaints_go_to_a_file_of_their_own(spawn: Spawn, tmp_path: Path) -> None:
    """A warning in the middle of a line would tear it; and the file is for its owner only."""
    terminal = spawn(*python("import sys; print('complaint', file=sys.stderr); print('answer', flush=True)"))

    assert await within(read_all(terminal)) == b"answer\n"
    assert (tmp_path / "stderr").read_text() == "complaint\n"
    assert stat.S_IMODE((tmp_path / "stderr").stat().st_mode) == 0o600


async def test_words_reach_the_child_as_they_are(spawn: Spawn) -> None:
    """A shell stands in between: it must not read them."""
    words = ["$(id)", "a b", "'", '"', "*", "-x", "", "한국어", "\\n", "`id`"]
    terminal = spawn(*python("import json, sys; print(json.dumps(sys.argv[1:]), flush=True)"), *words, PYTHONUTF8="1")

    assert json.loads(await within(read_all(terminal))) == words


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_the_last_words_of_a_child_are_read(spawn: Spawn) -> None:
    """What it wrote before it ended comes first, then the end; and the end stays."""
    terminal = spawn(*python(f"import sys; sys.stdout.buffer.write(b'x' * {MEGABYTE})"))

    assert await within(read_all(terminal)) == b"x" * MEGABYTE
    assert await within(terminal.read()) == b""
    assert terminal.ended


async def test_a_program_that_is_missing_ends_at_once_and_says_why(spawn: Spawn, tmp_path: Path) -> None:
    """The caller looks into the file of complaints for the reason."""
    terminal = spawn("/no/such/program", "--acp")

    assert await within(read_all(terminal)) == b""
    assert "/no/such/program" in (tmp_path / "stderr").read_text()


async def test_nothing_can_be_written_to_a_child_that_has_gone(spawn: Spawn) -> None:
    """The ask that tries is told, instead of waiting for an answer."""
    terminal = spawn(*python("pass"))
    await within(read_all(terminal))

    with pytest.raises(TerminalError):
        await within(terminal.write(b"x"))


async def test_a_write_ends_with_the_child_that_does_not_read(spawn: Spawn) -> None:
    """A child that is ended while a prompt is on its way takes the waiting ask with it."""
    terminal = spawn(*python("import time; print('up', flush=True); time.sleep(600)"))
    assert await within(terminal.read()) == b"up\n"
    writing = asyncio.ensure_future(terminal.write(b"x" * 10 * MEGABYTE))
    reading = asyncio.ensure_future(terminal.read())
    await asyncio.sleep(0)
    assert not writing.done()

    terminal.kill()

    with pytest.raises(TerminalError):
        await within(writing)
    assert await within(reading) == b""


async def test_a_child_is_asked_to_end_before_it_is_ended(spawn: Spawn) -> None:
    """SIGTERM lets it put its files in order; it is waited for no longer than it takes."""
    script = (
        "import os, signal, sys\n"
        "def end(*_):\n    os.write(1, b'in order\\n')\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\nsignal.pause()"
    )
    terminal = spawn(*python(script))
    assert await within(terminal.read()) == b"up\n"

    await within(terminal.close(grace_s=DEADLINE_S))

    assert await within(read_all(terminal)) == b"in order\n"
    assert not psutil.pid_exists(terminal.pid)


async def test_a_child_that_does_not_listen_is_ended(spawn: Spawn) -> None:
    """It ignores SIGTERM and SIGHUP; after the grace there is SIGKILL."""
    script = (
        "import signal\nfor s in (signal.SIGTERM, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n"
        "print('up', flush=True)\nwhile True: signal.pause()"
    )
    terminal = spawn(*python(script))
    assert await within(terminal.read()) == b"up\n"

    await within(terminal.close(grace_s=0.1))

    assert terminal.ended
    assert not psutil.pid_exists(terminal.pid)


async def test_ending_twice_in_any_order_is_fine(spawn: Spawn) -> None:
    """Ends race each other: an ask's, the hub's, the process's own."""
    for ends in (("kill", "kill"), ("close", "close"), ("kill", "close"), ("close", "kill")):
        terminal = spawn(*CAT)
        for end in ends:
            if end == "kill":
                terminal.kill()
            else:
                await within(terminal.close())

        assert not psutil.pid_exists(terminal.pid)
        assert await within(terminal.read()) == b""


TRACER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0, ctypes.get_errno()  # PTRACE_SEIZE
print("up", flush=True)
sys.stdin.read()
"""


async def test_a_child_that_does_not_end_even_when_killed_keeps_nobody_up(spawn: Spawn) -> None:
    """The system keeps it: for a disk that does not answer, or, as here, for who traces it. It is reaped later."""
    terminal = spawn(*CAT)
    before = len(os.listdir("/proc/self/fd"))
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(terminal.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"up\n"
        os.kill(tracer.pid, signal.SIGSTOP)

        terminal.kill()  # which ended only with the tracer

        assert psutil.Process(terminal.pid).status() == psutil.STATUS_ZOMBIE
        assert terminal.ended
        terminal.kill()
        os.kill(tracer.pid, signal.SIGKILL)
    while psutil.pid_exists(terminal.pid):
        await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) < before


async def test_two_may_wait_for_the_same_end(spawn: Spawn) -> None:
    """An idle release and the hub's own end may meet."""
    terminal = spawn(*CAT)

    await within(asyncio.gather(terminal.close(), terminal.close(), read_all(terminal)))

    assert not psutil.pid_exists(terminal.pid)


async def test_the_childs_own_children_go_with_it(spawn: Spawn) -> None:
    """SIGKILL reaches the whole process group: a shell tool's process would live on."""
    terminal = spawn("/bin/sh", "-c", "trap '' HUP; sleep 600 & echo $!; wait")
    grandchild = psutil.Process(int(await within(terminal.read())))

    terminal.kill()

    gone, _ = psutil.wait_procs([grandchild], timeout=DEADLINE_S)
    assert gone == [grandchild]


async def test_no_descriptor_is_left_open(spawn: Spawn) -> None:
    """A hub that lives for months restarts its child many times."""
    open_before: list[int] = []
    for how in ["kill", "close", "end"] * 3:
        terminal = spawn(*(python("pass") if how == "end" else CAT))
        if how == "close":
            await within(terminal.close())
        elif how == "end":
            await within(read_all(terminal))
        terminal.kill()
        open_before.append(len(os.listdir("/proc/self/fd")))

    assert len(set(open_before)) == 1


@pytest.mark.parametrize("refused", ["forkpty", "openpty"])
async def test_a_child_that_cannot_be_forked_leaves_no_descriptor_open(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """No more processes, or no /dev/pts: each ask tries anew, until the hub could open nothing more."""

    def refuse() -> None:
        raise OSError(errno.EAGAIN, "made up")

    for name in ("forkpty", "fork"):
        monkeypatch.setattr(os, name, refuse)
    if refused == "openpty":
        monkeypatch.setattr("pty.openpty", refuse)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(TerminalError) as raised:
            spawn(*CAT)
        assert no_terminal(raised.value).message == "This machine lets the hub start no more programs (made up)."

    assert len(os.listdir("/proc/self/fd")) == before


async def test_ending_a_child_does_not_keep_the_loop(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other answers would stand still as long."""
    terminal = spawn(*CAT)

    slept: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr("ptyprocess.ptyprocess.time.sleep", slept.append)
        terminal.kill()

    assert max(slept, default=0) < 0.1  # ptyprocess's own pauses are as long as that
    assert not psutil.pid_exists(terminal.pid)


async def test_a_machine_that_gives_no_terminal_is_told(spawn: Spawn) -> None:
    """Containers without /dev/pts, or out of descriptors: an error of ours, not a traceback."""
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(TerminalError):
            spawn(*CAT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- without a loop, without a hub -------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_a_child_can_be_ended_when_the_loop_is_gone(tmp_path: Path, anyio_backend: str) -> None:
    """The last resort at exit runs after the event loop."""

    async def start() -> Terminal:
        return Terminal.spawn(CAT, environment={}, cwd=tmp_path, stderr=tmp_path / "stderr")

    terminal = asyncio.run(start())
    terminal.kill()

    assert not psutil.pid_exists(terminal.pid)


HUB = """
import asyncio, sys
from pathlib import Path
from llm_mcp_hub.children.terminal import Terminal
async def main():
    terminal = Terminal.spawn(["/bin/cat"], environment={}, cwd=Path("/"), stderr=Path(sys.argv[1]))
    await terminal.write(b"x")
    await terminal.read()
    print(terminal.pid, flush=True)
    await terminal.read()
asyncio.run(main())
"""


def test_the_child_goes_when_the_hub_is_killed(tmp_path: Path) -> None:
    """G5, and the reason for the terminal: the kernel closes the master side, and the child gets SIGHUP."""
    with subprocess.Popen(
        [sys.executable, "-c", HUB, str(tmp_path / "stderr")], stdout=subprocess.PIPE, text=True
    ) as hub:
        assert hub.stdout is not None
        child = psutil.Process(int(hub.stdout.readline()))
        hub.send_signal(signal.SIGKILL)

    gone, _ = psutil.wait_procs([child], timeout=DEADLINE_S)
    assert gone == [child]
