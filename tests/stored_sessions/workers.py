"""What other processes do with a session; started with `spawn`, each as on a machine of its own."""

from __future__ import annotations

import os
import pickle
import random
import sys
from pathlib import Path

import versioned_zarr as vz


def alone(home: str) -> None:
    """Become a process on a machine of its own."""
    os.environ["VERSIONED_ZARR_HOME"] = home


def value(key: str, size: int = 1000) -> bytes:
    """What is written under a key: the same by whoever writes it."""
    return random.Random(key).randbytes(size)


def write_keys(home: str, pickled: bytes, keys: list[str], size: int) -> None:
    """Write values into a session."""
    alone(home)
    session = pickle.loads(pickled)
    for key in keys:
        session.write(key, value(key, size))


def write_until_killed(home: str, pickled: bytes, name: str, notes: str) -> None:
    """Write values and note each that was acknowledged."""
    alone(home)
    session = pickle.loads(pickled)
    with Path(notes).open("a", buffering=1) as told:
        for number in range(10**6):
            key = f"{name}/{number}"
            session.write(key, value(key))
            told.write(f"{key}\n")


def open_and_leave(home: str, url: str, keys: list[str]) -> None:
    """Open a session, share it, write values and die."""
    alone(home)
    session = vz.open(url).session(purpose="left")
    pickle.dumps(session)
    for key in keys:
        session.write(key, value(key))
    sys.stdout.flush()
    os._exit(1)
