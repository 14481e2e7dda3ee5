"""What processes do that share nothing but a folder; each is a script of its own.

A process may be in its own mount, host name and PID namespaces, as on another machine. There it has
no state directory of another one, and process numbers of others mean nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REFUSING = """if True:
    import errno, fcntl, mmap, os, sys
    SHARED = os.path.realpath(sys.argv[1])

    def is_shared(fd):
        return os.path.realpath(f"/proc/self/fd/{fd}").startswith(SHARED)

    def refusing(call):
        def refused(fd, *arguments, **named):
            number = fd if isinstance(fd, int) else fd.fileno()
            if number >= 0 and is_shared(number):
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
            return call(fd, *arguments, **named)
        return refused

    fcntl.flock, fcntl.lockf = refusing(fcntl.flock), refusing(fcntl.lockf)

    class Refusing(mmap.mmap):
        def __new__(cls, fd, *arguments, **named):
            if fd >= 0 and is_shared(fd):
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            return super().__new__(cls, fd, *arguments, **named)

    mmap.mmap = Refusing
    opened = os.open

    def open_without_append(path, flags, *arguments, **named):
        shared = os.path.realpath(os.fspath(path)).startswith(SHARED)
        assert not (shared and flags & os.O_APPEND), path
        return opened(path, flags, *arguments, **named)

    os.open = open_without_append
"""
"""The beginning of a script, for which the folder in its first argument has no locks and maps."""
STORM = """if True:
    import sys
    import versioned_zarr as vz
    repository = vz.open(sys.argv[1])
    for number in range(int(sys.argv[3])):
        session = repository.session()
        session.write(f"{sys.argv[2]}/{number}", b"x" * 5000)
        print(session.commit(f"{sys.argv[2]}/{number}").cid, f"{sys.argv[2]}/{number}", flush=True)
"""
"""Commits to one branch, and prints what was acknowledged."""
NAMESPACES = ("--mount", "--pid", "--uts", "--fork", "--kill-child")


def namespace_command() -> list[str]:
    """The command that starts a process in namespaces of its own; skips if that is denied."""
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("there is no unshare here")
    said = ""
    for user in ((), ("--user", "--map-root-user")):
        command = [program, *user, *NAMESPACES]
        tried = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
        if tried.returncode == 0:
            return command
        said = tried.stderr.strip()
    if os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(f"root cannot make namespaces: {said}")
    pytest.skip(f"this system denies namespaces: {said}")


@contextlib.contextmanager
def machine(
    script: str,
    *arguments: object,
    home: Path,
    before: tuple[str, ...] = (),
    start: str = "",
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script, as on a machine with this state directory."""
    with subprocess.Popen(
        [*before, sys.executable, "-W", "error", "-c", start + script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VERSIONED_ZARR_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def on_another_host(command: list[str], mounted: Path, at: Path) -> tuple[str, ...]:
    """A command before another one: a new host name, and a folder mounted at another path."""
    set_up = f'hostname node-{uuid.uuid4().hex[:8]} && mount --bind "$0" "$1" && shift && exec "$@"'
    return (*command, "sh", "-c", set_up, str(mounted), str(at))


def output(process: subprocess.Popen[str]) -> list[str]:
    """The lines that a process prints until it ends well."""
    said, wrong = process.communicate(timeout=400)
    assert process.returncode == 0, wrong[-8000:]
    return said.splitlines()
