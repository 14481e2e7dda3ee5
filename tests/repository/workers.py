"""What the processes of the concurrency and crash tests run; started with `spawn`."""

from __future__ import annotations

import os
import random
import struct
import sys
import time
from datetime import timedelta

import versioned_zarr as vz


def storm(url: str, worker: int, commits: int, acknowledged: str) -> None:
    """Commit to one branch, each time a key of its own, and note what was acknowledged."""
    repository = vz.open(url)
    with open(acknowledged, "a", buffering=1) as notes:
        for number in range(commits):
            session = repository.session()
            session.write(f"w{worker}/{number}", f"{worker}/{number}".encode())
            commit = session.commit(f"{worker}/{number}")
            notes.write(f"{commit.cid} w{worker}/{number}\n")


def transfer_money(url: str, seed: int, transfers: int, accounts: int) -> None:
    """Move money between accounts, trying again whenever another process was quicker."""
    repository = vz.open(url)
    chance = random.Random(seed)
    for _ in range(transfers):
        giver, taker = chance.sample(range(accounts), 2)
        while True:
            session = repository.session()
            balance = struct.unpack("<q", session.read(f"accounts/c/{giver}"))[0]
            amount = chance.randint(0, max(0, balance))
            other = struct.unpack("<q", session.read(f"accounts/c/{taker}"))[0]
            session.write(f"accounts/c/{giver}", struct.pack("<q", balance - amount))
            session.write(f"accounts/c/{taker}", struct.pack("<q", other + amount))
            try:
                session.commit(f"{giver} gives {amount} to {taker}")
                break
            except vz.NothingToCommitError:
                break
            except vz.ConflictError:
                session.discard()


def write_for_ever(url: str, acknowledged: str) -> None:
    """Write and commit until killed, noting each commit and each write that was acknowledged."""
    repository = vz.open(url)
    chance = random.Random(os.getpid())
    session = repository.session()
    with open(acknowledged, "a", buffering=1) as notes:
        notes.write(f"session {session.id}\n")
        number = 0
        while True:
            for _ in range(chance.randint(1, 6)):
                number += 1
                key = f"{os.getpid()}/{number % 40}"
                value = f"{key}={number}".encode() * chance.choice([1, 50, 80_000])
                session.write(key, value)
                notes.write(f"wrote {key} {number} {len(value)}\n")
            commit = session.commit(f"up to {number}")
            notes.write(f"commit {commit.cid}\n")


def keep_house_for_ever(url: str, started: str) -> None:
    """Run gc and repack until killed."""
    repository = vz.open(url)
    with open(started, "a", buffering=1) as notes:
        while True:
            notes.write("gc\n")
            repository.gc(keep_reflog=timedelta(0))
            repository.repack()


def write_into(session: vz.Session, key: str, value: bytes) -> None:
    """Write one key into a session that came by pickle."""
    session.write(key, value)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[name](*(int(text) if text.isdigit() else text for text in arguments))
    time.sleep(0)
