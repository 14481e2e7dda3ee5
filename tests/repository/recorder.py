"""Records what is done to the files below a folder, in order, while it is really done."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Op:
    """One thing that was done.

    Attributes:
        what: "create", "mkdir", "write", "truncate", "allocate", "sync", "rename", "unlink",
            "rmdir", or "mark" for what a test itself noted.
        path: to what, relative to the folder.
        to: the new path, of a rename.
        offset: where, of a write; the size, of "truncate" and "allocate".
        data: what was written.
        fact: what a test noted.
    """

    what: str
    path: str = ""
    to: str = ""
    offset: int = 0
    data: bytes = b""
    fact: Any = None


class Recorder:
    """What was done below a folder. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self.root = f"{folder}/"
        self.ops: list[Op] = []

    def mark(self, fact: Any) -> None:
        """Note what the test knows now."""
        self.ops.append(Op("mark", fact=fact))

    def index(self, what: str, part: str, start: int = 0) -> int:
        """Where something was first done to a path that holds `part`, from `start` on."""
        for number in range(start, len(self.ops)):
            op = self.ops[number]
            if op.what == what and (part in op.path or part in op.to):
                return number
        raise AssertionError(f"no {what} of {part!r} in {self.shown(start)}")

    def synced(self, path: str, start: int) -> int:
        """Where just this file or folder was first synced, from `start` on."""
        for number in range(start, len(self.ops)):
            if (self.ops[number].what, self.ops[number].path) == ("sync", path):
                return number
        raise AssertionError(f"no sync of {path!r} in {self.shown(start)}")

    def shown(self, start: int = 0) -> list[str]:
        """What was done, for people."""
        return [f"{op.what} {op.path} {op.to}".strip() for op in self.ops[start:]]

    def note(self, what: str, path: object, **facts: Any) -> None:
        """Record something if it was done below the folder."""
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        if f"{text}/".startswith(self.root):
            self.ops.append(Op(what, text.removeprefix(self.root.rstrip("/")).strip("/"), **facts))

    def relative(self, path: object) -> str:
        """A path as it stands in what is recorded."""
        return os.fspath(path).removeprefix(self.root)


def _path_of(fd: int, name: str = "") -> str:
    folder = os.readlink(f"/proc/self/fd/{fd}")
    return f"{folder}/{name}" if name else folder


def _at(path: Any, dir_fd: int | None) -> Any:
    return path if dir_fd is None else _path_of(dir_fd, os.fspath(path))


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """Record all that this process does below a folder."""
    recorder = Recorder(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, wrapped in _wrapped(recorder).items():
            patch.setattr(os, name, wrapped)
        yield recorder


def _wrapped(recorder: Recorder) -> dict[str, Callable[..., Any]]:
    real = {name: getattr(os, name) for name in dir(os) if callable(getattr(os, name))}
    note = recorder.note

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        is_new = bool(flags & os.O_CREAT) and not os.path.lexists(_at(path, dir_fd))
        fd = int(real["open"](path, flags, mode, dir_fd=dir_fd))
        if is_new:
            note("create", _at(path, dir_fd))
        return fd

    def write(fd: int, data: Any) -> int:
        offset = os.fstat(fd).st_size
        done = int(real["write"](fd, data))
        note("write", _path_of(fd), offset=offset, data=bytes(data)[:done])
        return done

    def pwrite(fd: int, data: Any, offset: int) -> int:
        done = int(real["pwrite"](fd, data, offset))
        note("write", _path_of(fd), offset=offset, data=bytes(data)[:done])
        return done

    def pwritev(fd: int, parts: Any, offset: int, *flags: int) -> int:
        done = int(real["pwritev"](fd, parts, offset, *flags))
        note("write", _path_of(fd), offset=offset, data=b"".join(map(bytes, parts))[:done])
        return done

    def ftruncate(fd: int, size: int) -> None:
        real["ftruncate"](fd, size)
        note("truncate", _path_of(fd), offset=size)

    def allocate(fd: int, offset: int, size: int) -> None:
        real["posix_fallocate"](fd, offset, size)
        note("allocate", _path_of(fd), offset=offset + size)

    def sync(name: str) -> Callable[[int], None]:
        def wrapped(fd: int) -> None:
            real[name](fd)
            note("sync", _path_of(fd))

        return wrapped

    def rename(name: str) -> Callable[..., None]:
        def wrapped(source: Any, target: Any, **options: Any) -> None:
            real[name](source, target, **options)
            note("rename", source, to=recorder.relative(target))

        return wrapped

    def removing(what: str) -> Callable[..., None]:
        def wrapped(path: Any, *, dir_fd: int | None = None) -> None:
            where = _at(path, dir_fd)
            real[what](path, dir_fd=dir_fd)
            note(what, where)

        return wrapped

    def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real["mkdir"](path, mode, dir_fd=dir_fd)
        note("mkdir", path)

    return {
        "open": open_,
        "write": write,
        "pwrite": pwrite,
        "pwritev": pwritev,
        "ftruncate": ftruncate,
        "posix_fallocate": allocate,
        "fsync": sync("fsync"),
        "fdatasync": sync("fdatasync"),
        "rename": rename("rename"),
        "replace": rename("replace"),
        "unlink": removing("unlink"),
        "rmdir": removing("rmdir"),
        "mkdir": mkdir,
    }
