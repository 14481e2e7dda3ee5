"""Gc on an object store, with writers of other machines at each of its requests, and vice versa."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.torture import SEED, TIMES
from versioned_zarr.history import refs as history_refs

obstore = pytest.importorskip("obstore")

from obstore.store import MemoryStore  # noqa: E402

from versioned_zarr.backends.objectstore import obstore_storage, pack_upload  # noqa: E402
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks  # noqa: E402

URL = "s3://bucket/prefix"
NOW = timedelta(0)
_STRIDE = 12
"""`make test` tries every twelfth request, `make torture` all."""
GONE = (vz.RefNotFoundError, vz.CollectedError, vz.BlockNotFoundError)
DEAD = {f"d/c/{number}": bytes([number]) * 3000 for number in range(4)}


class Hooked:
    """obstore, with an act of another machine before one of the requests."""

    def __init__(self) -> None:
        self.made = 0
        self.at = -1
        self.act: Callable[[], object] = lambda: None
        self._guard = threading.Lock()
        self._acting = threading.local()

    def __getattr__(self, name: str) -> Any:
        function = getattr(obstore, name)

        def call(store: Any, *arguments: Any, **keywords: Any) -> Any:
            with self._guard:
                is_due = self.made == self.at and not self.is_acting
                self.made += not self.is_acting
                if is_due:
                    self.is_acting = True
            if is_due:
                try:
                    self.act()
                finally:
                    self.is_acting = False
            return function(store, *arguments, **keywords)

        return call

    is_acting = False


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> Hooked:
    found = Hooked()
    monkeypatch.setattr(obstore_storage, "obstore", found)
    return found


class World:
    """A repository with garbage, seen from several machines.

    Attributes:
        dead: the commit that no ref names any more.
        kept: what must be readable at the end: contents by ref or commit.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *, is_mixed: bool) -> None:
        self._monkeypatch, self.folder = monkeypatch, folder
        self.url, self.options = self.place()
        self.kept: dict[str, dict[str, bytes]] = {}
        self._machines = 0
        self._move()
        repo = vz.create(self.url, **self.options)
        self.commit(repo, {"a": b"1" * 2000}, "one")
        repo.branches.create("dev")
        self.commit(repo, {"b": b"2" * 2000}, "two", "dev")
        repo.branches.create("lost")
        self.dead = self.commit(repo, DEAD, "dead", "lost")
        if is_mixed:  # one pack has everything
            repo.repack()
        repo.branches.delete("lost")
        self.commit(repo, {"a": b"3" * 2000}, "three")

    def place(self) -> tuple[str, dict[str, Any]]:
        """A URL where nothing is yet, and the options for it."""
        return URL, {"store": MemoryStore()}

    def _move(self) -> None:
        self._machines += 1
        home = self.folder / f"machine{self._machines}"
        self._monkeypatch.setenv("VERSIONED_ZARR_HOME", str(home))

    def machine(self) -> vz.Repository:
        """The repository from a machine that knows nothing."""
        self._move()
        return vz.open(self.url, **self.options)

    def commit(
        self, repo: vz.Repository, values: dict[str, bytes], message: str, branch: str = "main"
    ) -> str:
        with repo.session(branch, message=message) as session:
            for key, value in values.items():
                session.write(key, value)
        commit = repo.branches[branch].cid
        self.kept[commit] = dict(repo.checkout(commit).mapping)
        return commit

    def check(self) -> None:
        """Everything that a ref reaches is there, and every acknowledged change is reached."""
        repo = self.machine()
        assert repo.gc(keep_reflog=NOW).problems == ()
        assert repo.fsck(read_all=True).is_clean
        assert repo.gc(keep_reflog=NOW, dry_run=True).removed_packs == 0
        named = {commit.cid for ref in [*repo.branches, *repo.tags] for commit in repo.log(ref)}
        for commit, values in self.kept.items():
            if commit in named:
                assert dict(repo.checkout(commit).mapping) == values
        for ref in [*repo.branches, *repo.tags]:
            for value in repo.checkout(ref).mapping.values():
                assert value


Act = Callable[[World, vz.Repository], None]


def collects(world: World, repo: vz.Repository) -> None:
    repo.gc(keep_reflog=NOW)


def repacks(world: World, repo: vz.Repository) -> None:
    repo.repack()


def writes_what_is_dead(world: World, repo: vz.Repository) -> None:
    commit = world.commit(repo, DEAD, "again")
    assert commit in {each.cid for each in repo.log("main")}


def names_what_is_dead(world: World, repo: vz.Repository) -> None:
    try:
        repo.branches.create("saved", at=world.dead)
    except GONE:
        assert "saved" not in repo.branches


def moves_to_what_is_dead(world: World, repo: vz.Repository) -> None:
    before = repo.branches["dev"].cid
    try:
        repo.branches.move("dev", world.dead)
    except GONE:
        assert repo.branches["dev"].cid == before


def merges(world: World, repo: vz.Repository) -> None:
    repo.merge("dev")
    assert repo.checkout("main").mapping["b"] == b"2" * 2000


def tags(world: World, repo: vz.Repository) -> None:
    repo.tags.create("v1", at="main~1")
    repo.branches.delete("dev")


def renames(world: World, repo: vz.Repository) -> None:
    repo.branches.rename("dev", "work")
    assert dict(repo.checkout("work").mapping)["b"] == b"2" * 2000


def pushes_what_is_dead(world: World, repo: vz.Repository) -> None:
    here = vz.clone(world.url, world.folder / "clone", src_options=world.options)
    with here.session(message="pushed") as session:
        for key, value in DEAD.items():
            session.write(key, value)
    here.push(world.url, "main", **world.options)
    commit = here.branches["main"].cid
    world.kept[commit] = dict(here.checkout(commit).mapping)


def writes_much(world: World, repo: vz.Repository) -> None:
    world.commit(repo, {f"m/c/{number}": bytes([number]) * 9000 for number in range(12)}, "much")


class Killed(BaseException):
    pass


def dies_while_it_creates(world: World, repo: vz.Repository) -> None:
    def die(*_: object) -> None:
        raise Killed

    repo._stores.refs._check.check = die  # type: ignore[attr-defined] # of this backend
    with suppress(Killed, *GONE):
        repo.branches.create("saved", at=world.dead)


WRITERS = [
    dies_while_it_creates,
    writes_what_is_dead,
    writes_much,
    pushes_what_is_dead,
    names_what_is_dead,
    moves_to_what_is_dead,
    merges,
    tags,
    renames,
]


def runs(
    hooked: Hooked,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    pair: tuple[Act, Act],
    *,
    is_mixed: bool,
    make_world: type[World] = World,
    most: int = _STRIDE,
) -> None:
    """Run the first act, with the second one before its n-th request, for many n or all."""
    monkeypatch.setattr(history_refs, "_LONGEST_PAUSE_S", 0.0)  # the other one does not go on
    monkeypatch.setattr(pack_upload, "PACK_BYTES", 20_000)
    monkeypatch.setattr(ObjectBlocks, "pack_bytes", 20_000)
    first, second = pair
    stride = max(1, most // TIMES)
    number = SEED % stride
    while True:
        hooked.at = -1
        world = make_world(monkeypatch, folder / str(number), is_mixed=is_mixed)
        repo, other = world.machine(), world.machine()
        hooked.act = lambda world=world, other=other: second(world, other)  # type: ignore[misc]
        hooked.made, hooked.at = 0, number
        first(world, repo)
        is_done = hooked.made <= number
        hooked.at = -1
        world.check()
        if is_done:
            return
        number += stride


@pytest.mark.torture
@pytest.mark.parametrize("is_mixed", [False, True], ids=["whole", "mixed"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_acts_at_each_request_of_gc(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writer: Act, is_mixed: bool
) -> None:
    pair = (collects, writer)
    runs(hooked, monkeypatch, tmp_path, pair, is_mixed=is_mixed)


@pytest.mark.torture
@pytest.mark.parametrize("is_mixed", [False, True], ids=["whole", "mixed"])
@pytest.mark.parametrize("writer", WRITERS)
def test_gc_runs_at_each_request_of_a_writer(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writer: Act, is_mixed: bool
) -> None:
    pair = (writer, collects)
    runs(hooked, monkeypatch, tmp_path, pair, is_mixed=is_mixed)


@pytest.mark.torture
@pytest.mark.parametrize("first", [collects, repacks])
@pytest.mark.parametrize("second", [collects, repacks])
def test_a_collector_acts_at_each_request_of_another(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: Act, second: Act
) -> None:
    runs(hooked, monkeypatch, tmp_path, (first, second), is_mixed=True)
