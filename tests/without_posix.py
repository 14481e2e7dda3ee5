"""What the package sees where the system is not POSIX, for a process that `install` prepares.

Only the package's own imports differ: its modules find neither fcntl nor what else Windows lacks,
and instead `msvcrt` and `_winapi` as this file makes them. Python's library, other packages and the
tests use the system as it is.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import mmap
import os
import struct
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

PACKAGE = "versioned_zarr"
MODULES = {"_posixsubprocess", "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline"} | {
    *("resource", "syslog", "termios", "tty"),
}
"""Modules that Windows has not."""
NAMES = {
    "mmap": {name for name in dir(mmap) if name.startswith(("MAP_", "PROT_", "MADV_"))},
    "select": {"POLLIN", "POLLOUT", "epoll", "kqueue", "poll"},
    "os": {name for name in dir(os) if name.startswith(("O_", "W", "POSIX_", "SCHED_", "EFD_"))}
    - {"O_APPEND", "O_CREAT", "O_EXCL", "O_RDONLY", "O_RDWR", "O_TRUNC", "O_WRONLY", "W_OK"}
    | {"chown", "copy_file_range", "fchmod", "fchown", "fdatasync", "fork", "forkpty"}
    | {"fstatvfs", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid"}
    | {"getpgrp", "getpriority", "getsid", "getuid", "getxattr", "killpg", "lchown"}
    | {"lockf", "memfd_create", "mkfifo", "mknod", "nice", "openpty", "pipe2"}
    | {"posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite"}
    | {"pwritev", "readv", "register_at_fork", "sched_getaffinity", "sendfile", "setgid"}
    | {"setsid", "setuid", "setxattr", "splice", "statvfs", "sync", "sysconf", "ttyname"}
    | {"uname", "wait", "wait3", "wait4", "waitid", "writev"},
}
"""Names that Windows lacks of modules that it has."""


class _Part(ModuleType):
    """A module without some of its names; set on it is set on the module."""

    def __init__(self, whole: ModuleType, without: set[str], **other: Any) -> None:
        super().__init__(whole.__name__, whole.__doc__)
        self.__dict__.update(_whole=whole, _without=without, **other)

    def __getattr__(self, name: str) -> Any:
        if name in self._without:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)
        return getattr(self._whole, name)

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._whole) if name not in self._without]


def _locking(fd: int, mode: int, size: int) -> None:
    """As `_locking` of the C runtime: whole and exclusive, from the position on, or EACCES.

    By locks of the open file (OFD), which like those of Windows belong to what was opened, end when
    it is closed, and hold between threads. A file that is only read can be locked against writers
    alone, so that two that share the same byte are not seen there.
    """
    start = os.lseek(fd, 0, os.SEEK_CUR)
    if start + size > 1 << 31:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    assert mode in {MSVCRT.LK_NBLCK, MSVCRT.LK_UNLCK}
    is_read = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    kind = fcntl.F_RDLCK if is_read else fcntl.F_WRLCK
    kind = fcntl.F_UNLCK if mode == MSVCRT.LK_UNLCK else kind
    asked = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, size, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, asked)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


def _create_file(
    path: str, access: int, share: int, security: int, how: int, attributes: int, template: int
) -> int:
    """As CreateFileW; a handle is a descriptor here."""
    assert share == 7, "what is open could not be renamed or deleted"
    assert (security, attributes, template) == (0, 0x80, 0)
    flags = {1: os.O_CREAT | os.O_EXCL, 3: 0, 4: os.O_CREAT}[how]
    flags |= {0x80000000: os.O_RDONLY, 0x40000000: os.O_WRONLY, 0xC0000000: os.O_RDWR}[access]
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return os.open(path, flags, 0o666)


MSVCRT = SimpleNamespace(
    LK_NBLCK=2, LK_UNLCK=0, locking=_locking, open_osfhandle=lambda handle, flags: handle
)
WINAPI = SimpleNamespace(CreateFile=_create_file, CloseHandle=os.close)


def install(*, has_msvcrt: bool = True) -> None:
    """Let the package see it from now on; none of it may have been imported.

    Args:
        has_msvcrt: whether it sees Windows, or a system without locks.
    """
    assert not any(name.partition(".")[0] == PACKAGE for name in sys.modules)
    real = builtins.__import__
    parts: dict[str, Any] = {
        name: _Part(__import__(name), without) for name, without in NAMES.items()
    }
    parts["os"].__dict__.update(supports_dir_fd=set(), supports_fd=set())
    if has_msvcrt:
        parts |= {"msvcrt": MSVCRT, "_winapi": WINAPI}

    def restricted(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        importer = (globals or {}).get("__name__") or ""
        if importer.partition(".")[0] == PACKAGE:
            if name in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in parts:
                return parts[name]
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = restricted
