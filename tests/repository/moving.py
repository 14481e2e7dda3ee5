"""What tests of transfers share: repositories to move between, and counting what is looked at."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import versioned_zarr as vz
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.repository.repository import Repository


def memory(**options: str) -> Repository:
    return vz.create(f"memory://{uuid.uuid4()}", **options)


def commit(
    repository: Repository, changes: dict[str, bytes], branch: str = "main", message: str = "x"
) -> vz.Commit:
    session = repository.session(branch)
    for key, value in changes.items():
        session.mapping[key] = value
    return session.commit(message)


@dataclass
class Counted:
    """What was asked of a block store while it was watched."""

    got: set[Cid] = field(default_factory=set)
    put: list[Cid] = field(default_factory=list)
    put_bytes: int = 0


class CutOffError(Exception):
    """What stops a transfer in its midst."""


@contextmanager
def watched(repository: Repository, puts: int | None = None) -> Iterator[Counted]:
    """Count the blocks that are read and stored; fail after so many `puts`, once one is stored."""
    blocks, counted = repository._stores.blocks, Counted()
    get, put = blocks.get, blocks.put
    left = puts

    def watched_get(cid: Cid) -> memoryview:
        counted.got.add(cid)
        return get(cid)

    def watched_put(batch: list[tuple[Cid, bytes]], root: Cid) -> None:
        nonlocal left
        if left == 0:
            raise CutOffError
        left = None if left is None else left - 1
        put(batch, root)
        counted.put += [cid for cid, _ in batch]
        counted.put_bytes += sum(len(data) for _, data in batch)

    blocks.get, blocks.put = watched_get, watched_put  # type: ignore[method-assign]  # on the object
    try:
        yield counted
    finally:
        del blocks.get, blocks.put


def same(one: Repository, other: Repository, branch: str = "main") -> bool:
    """Whether a branch has the same history and the same values on both sides."""
    return (
        [each.to_dict() for each in one.log(branch)]
        == [each.to_dict() for each in other.log(branch)]
        and dict(one.checkout(branch).mapping) == dict(other.checkout(branch).mapping)
        and other.fsck().is_clean
    )


def work_goes_back(ours: Repository, copy: Repository) -> None:
    """Check that a partial clone of `main` can be worked in, and its work be pushed."""
    commit(copy, {"tas/note": b"mine", "new/zarr.json": b"{}"})
    commit(ours, {"pr/note": b"yours"})
    copy.pull("origin")
    copy.push("origin", "main")
    assert ours.branches["main"] == copy.branches["main"]
    assert ours.fsck().is_clean
    assert ours.checkout().read("tas/note") == b"mine"


def is_whole(ours: Repository, copy: Repository) -> bool:
    """Whether a clone has the same log and holds all that it names."""
    report = copy.fsck()
    return list(copy.log()) == list(ours.log()) and report.is_clean and not report.absent


def check_shallow(ours: Repository, copy: Repository) -> None:
    """Check that a shallow clone holds the newest commit, and fetches the others."""
    expected = dict(ours.checkout().mapping)
    with watched(ours) as counted:
        assert dict(copy.checkout().mapping) == expected
    assert not counted.got
    assert [each.to_dict() for each in copy.log()] == [each.to_dict() for each in ours.log()]
    assert copy.diff("main~1", "main").to_dict() == ours.diff("main~1", "main").to_dict()
    assert copy.fsck().is_clean
