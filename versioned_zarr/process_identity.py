"""Process identity: an id that no other process has, on any machine or in any container.

A process ID is unique only within its machine, its PID namespace and its lifetime. So it is
combined with the boot ID of the machine, the namespace and the start time of the process. Sources:
proc(5) for `/proc/sys/kernel/random/boot_id` and field 22 of `/proc/PID/stat`, pid_namespaces(7).
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import lru_cache

__all__ = ["current", "is_known_dead", "is_of_this_machine", "shown"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NAMESPACE = "/proc/self/ns/pid"


def current() -> str:
    """The identity of this process, as text; empty if the system does not provide it."""
    return _identity(os.getpid())


def shown(process: int | None = None, host: str = "") -> str:
    """A process, as errors name it, by its process ID and its machine; by default, this one."""
    number = os.getpid() if process is None else process
    return f"process {number} on {host or platform.node() or 'an unnamed machine'}"


@lru_cache(maxsize=1)
def _identity(process: int) -> str:
    place, started = _place(), _started(process)
    return f"{place}:{process}:{started}" if place and started else ""


def is_known_dead(identity: str) -> bool:
    """Whether the process with this identity has ended.

    This can be known only for processes of the same boot of this machine and the same PID
    namespace; all others may be alive.
    """
    place, _, rest = identity.partition(":")
    text, _, started = rest.partition(":")
    if not (place and started and text.isdecimal()) or place != _place():
        return False
    return _started(int(text)) != started


def is_of_this_machine(identity: str) -> bool:
    """Whether a process with this identity was started in this boot and PID namespace."""
    place = identity.partition(":")[0]
    return bool(place) and place == _place()


def _place() -> str:
    """The boot of this machine and the PID namespace; empty if the system does not provide them."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            boot = file.read().strip()
        place = f"{boot}/{os.stat(_NAMESPACE).st_ino}"
    except OSError:
        return ""
    return hashlib.sha256(place.encode("ascii")).hexdigest()[:16]


def _started(process: int) -> str | None:
    """The start time of a process, in ticks since the boot; None if there is no such process."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # The program name, in parentheses, may contain any characters.
            fields = file.read().rpartition(b")")[2].split()
        state, started = fields[0], fields[19]
    except (OSError, IndexError):
        return None if not os.path.exists(f"/proc/{process}") else ""
    return None if state in {b"Z", b"X"} else started.decode("ascii")
