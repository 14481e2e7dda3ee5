"""A store that allows one write per second and name, as Google Cloud Storage and R2 do.

Time is counted, not measured: the commits of all branches together take an eighth of a second each.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import versioned_zarr as vz

obstore = pytest.importorskip("obstore")

from obstore.store import MemoryStore  # noqa: E402

from versioned_zarr.backends.objectstore import obstore_storage  # noqa: E402

URL = "s3://bucket/prefix"
BRANCHES = [f"branch/{number}" for number in range(8)]
COMMITS = 20
"""More than the records between two hints."""
COMMITS_PER_S = 8


class Limited:
    """obstore, before a store that refuses to write a name twice in a second.

    Attributes:
        refused: the names that were refused.
        commits_per_s: how many records are written in a second.
        gate: which objects wait until each branch writes one: the start of their names.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.gate, self.commits_per_s = "", COMMITS_PER_S
        self._together = threading.Barrier(len(BRANCHES))
        self._written: dict[str, float] = {}
        self._commits = 0
        self._guard = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(obstore, name)

    def put(self, store: Any, path: str, data: Any, **options: Any) -> Any:
        with self._guard:
            self._commits += path.startswith("refs/") and not path.endswith("/hint")
            now_s = self._commits / self.commits_per_s
            before_s = self._written.get(path)
            if before_s is not None and now_s - before_s < 1:
                self.refused.append(path)
                raise obstore.exceptions.GenericError("non-2xx status code: 429 Too Many Requests")
            self._written[path] = now_s
        if self.gate and path.startswith(self.gate):
            self._together.wait(60)
        return obstore.put(store, path, data, **options)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Limited:
    found = Limited()
    monkeypatch.setattr(obstore_storage, "obstore", found)
    return found


@pytest.fixture
def repository() -> vz.Repository:
    repository = vz.create(URL, store=MemoryStore())
    for branch in BRANCHES:
        repository.branches.create(branch, "main")
    return repository


def commit_in_turns(repository: vz.Repository) -> None:
    """Commit to all branches at once, again and again."""
    sessions = {branch: repository.session(branch) for branch in BRANCHES}
    with ThreadPoolExecutor(len(BRANCHES)) as threads:
        for number in range(COMMITS):

            def commit(branch: str, number: int = number) -> None:
                sessions[branch].write(f"{branch}/c/{number}", f"{branch} {number}".encode() * 100)
                sessions[branch].commit(f"{number}")

            list(threads.map(commit, BRANCHES))


def test_no_commit_writes_a_name_twice_in_a_second(
    repository: vz.Repository, limited: Limited
) -> None:
    commit_in_turns(repository)
    assert limited.refused == []
    assert limited._written.keys() >= {f"refs/heads/branch%2F{n}/hint" for n in range(8)}
    for branch in BRANCHES:
        messages = [commit.message for commit in repository.log(branch)]
        assert messages == [*map(str, reversed(range(COMMITS))), "Create the repository"]
    documents = repository._stores.documents
    assert documents is not None
    documents.put("twice", [b"1"])
    with pytest.raises(vz.StorageError, match="429"):
        documents.put("twice", [b"1"])
    assert limited.refused == ["twice"]


@pytest.mark.parametrize("gate", ["packs/", "refs/heads/"])
def test_commits_to_branches_do_not_wait_for_each_other(
    repository: vz.Repository, limited: Limited, gate: str
) -> None:
    sessions = {branch: repository.session(branch) for branch in BRANCHES}
    for branch, session in sessions.items():
        session.write("a", branch.encode() * 100)
    limited.gate = gate  # passed only if all are there at once
    with ThreadPoolExecutor(len(BRANCHES)) as threads:
        list(threads.map(lambda branch: sessions[branch].commit("at once"), BRANCHES))
    limited.gate = ""
    for branch in BRANCHES:
        assert repository.checkout(branch).read("a") == branch.encode() * 100


def test_a_refused_hint_delays_no_commit(repository: vz.Repository, limited: Limited) -> None:
    session = repository.session("branch/0")
    limited.commits_per_s = 32  # two hints in a second
    for number in range(16 * 3):
        session.write("a", f"{number}".encode())
        session.commit(f"{number}")
    assert limited.refused == ["refs/heads/branch%2F0/hint"]
    assert len(list(repository.log("branch/0"))) == 16 * 3 + 1
