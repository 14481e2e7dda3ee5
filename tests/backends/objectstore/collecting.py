"""What processes of other machines do while they collect garbage and make it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import versioned_zarr as vz
from versioned_zarr.backends.objectstore import ref_record
from versioned_zarr.engine import commit
from versioned_zarr.engine.maintenance import gc


def on_a_machine(home: str, days: int, task: Callable[..., None], *arguments: object) -> None:
    """Run a task as a machine would whose clock is some days ahead."""
    os.environ["VERSIONED_ZARR_HOME"] = home

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=days)

    for module in (ref_record, commit, gc):
        module.datetime = Shifted  # type: ignore[attr-defined]
    task(*arguments)


def collect(url: str, stop: str) -> None:
    """Collect garbage and repack until a file is there."""
    repo = vz.open(url)
    while not Path(stop).exists():
        repo.gc(keep_reflog=timedelta(0))
        repo.repack()


def churn(url: str, number: int, rounds: int, note: str) -> None:
    """Commit, merge, and make garbage whose values are then written again; note each commit."""
    repo = vz.open(url)
    with Path(note).open("w") as file:
        for turn in range(rounds):
            name = f"w{number}-{turn}"
            values = {f"{name}/c/{n}": bytes([number, turn, n]) * 2000 for n in range(3)}
            repo.branches.create(name)
            cid = _write(repo, name, values)
            if turn % 2:
                repo.merge(name)
                repo.tags.create(f"t{name}", at=name)
            repo.branches.delete(name)
            if not turn % 2:  # its values are garbage, and come back
                cid = _write(repo, "main", values)
            print(cid, *values, file=file, flush=True)


def _write(repo: vz.Repository, branch: str, values: dict[str, bytes]) -> str:
    session = repo.session(branch)
    for key, value in values.items():
        session.write(key, value)
    return session.commit(f"write {len(values)}").cid
