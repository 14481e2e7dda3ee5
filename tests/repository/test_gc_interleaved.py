"""Writers that come between the steps of gc, at the moments that matter; nothing here is chance.

What nobody reached when `gc` looked is used again before it takes its lock, by another process or
another object; or `gc` comes when a writer has looked, and not yet said what it needs.
"""

from __future__ import annotations

import multiprocessing
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.barrier import before_lock, is_free
from versioned_zarr.blocks.packs.pack_store import GC_LOCK
from versioned_zarr.ipld.unixfs import LEAF_SIZE
from versioned_zarr.repository.repository import Repository

SPAWN = multiprocessing.get_context("spawn")
CHANCE = random.Random(22)
KEPT, BESIDE, ALONE = (CHANCE.randbytes(300_000) for _ in range(3))
LARGE = CHANCE.randbytes(1_200_000)  # of more than one leaf
PART = LARGE[:LEAF_SIZE] + b"another end"
DEAD = {"dead/beside": BESIDE, "dead/alone": ALONE, "dead/small": b"small", "dead/large": LARGE}
KEPT_VALUES = {"kept": KEPT, "top": b"top"}
NOW = timedelta(0)
Values = dict[str, bytes]


@dataclass
class Place:
    """A repository, and what was acknowledged in it.

    Attributes:
        url: where it is.
        dead: the commit that nothing names any more.
        promised: of each ref the values that are in it, as who wrote them was told.
        later: what others do when gc is done, and have a right to.
    """

    url: str
    dead: str
    promised: dict[str, Values] = field(default_factory=dict)
    later: list[Callable[[], object]] = field(default_factory=list)

    def opened(self) -> Repository:
        return vz.open(self.url)

    def collect(self) -> None:
        self.opened().gc(keep_reflog=NOW)

    def collect_unless_held_off(self) -> None:
        """Do what `gc` does, unless it would have to wait for whoever holds its lock."""
        repository = self.opened()
        if is_free(repository._stores.storage, GC_LOCK):
            repository.gc(keep_reflog=NOW)

    def check(self) -> None:
        """All that was promised is there."""
        later, self.later = self.later, []
        for act in later:
            act()
        repository = vz.open(self.url, verify="always")
        assert repository.fsck().is_clean
        for ref, values in self.promised.items():
            snapshot = repository.checkout(ref)
            assert {key: bytes(snapshot.read(key)) for key in values} == values
            assert [*repository.log(ref)]


def written(repository: Repository, values: Values, branch: str = "main") -> vz.Session:
    session = repository.session(branch)
    for key, value in values.items():
        session.write(key, value)
    return session


@pytest.fixture(params=["memory", "folder"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """A repository with packs of which all is dead, or some, since a branch was deleted."""
    is_folder = request.param == "folder"
    url = str(tmp_path / "r.vz") if is_folder else f"memory://{uuid.uuid4()}"
    repository = vz.create(url)
    written(repository, {"top": b"top"}).commit("before")
    repository.branches.create("gone")
    written(repository, {"kept": KEPT, "dead/beside": BESIDE}, "gone").commit("some of it dead")
    written(repository, {"kept": KEPT}).commit("kept")
    dead = written(repository, DEAD, "gone").commit("all of it dead").cid
    repository.branches.delete("gone")
    return Place(url, dead, {"main": KEPT_VALUES})


# What others do with what was dead at the first look.


def commits(place: Place, repository: Repository) -> None:
    values = {f"again/{key}": value for key, value in DEAD.items()}
    written(repository, values).commit("again")
    place.promised["main"] = {**KEPT_VALUES, **values}


def commits_the_same_tree(place: Place, repository: Repository) -> None:
    written(repository, DEAD).commit("the folder that was there")
    place.promised["main"] = {**KEPT_VALUES, **DEAD}


def writes_into_a_session(place: Place, repository: Repository) -> None:
    session = written(repository, DEAD)
    place.later.append(lambda: session.commit("later"))
    place.promised["main"] = {**KEPT_VALUES, **DEAD}


def commits_a_part(place: Place, repository: Repository) -> None:
    written(repository, {"part": PART}).commit("a leaf of it")
    place.promised["main"] = {**KEPT_VALUES, "part": PART}


def writes_a_part_into_a_session(place: Place, repository: Repository) -> None:
    session = written(repository, {"part": PART})
    place.later.append(lambda: session.commit("later"))
    place.promised["main"] = {**KEPT_VALUES, "part": PART}


def leaves_a_session_with_a_part(place: Place, repository: Repository) -> None:
    session = written(repository, {"part": PART, "again": PART})
    session._working.end("died", keep_folder=True)
    place.later.append(lambda: place.opened().resume(session.id).commit("resumed"))
    place.promised["main"] = {**KEPT_VALUES, "part": PART, "again": PART}


def leaves_a_session(place: Place, repository: Repository) -> None:
    session = written(repository, DEAD)
    session._working.end("died", keep_folder=True)
    place.later.append(lambda: place.opened().resume(session.id).commit("resumed"))
    place.promised["main"] = {**KEPT_VALUES, **DEAD}


def opens_a_session_on_it(place: Place, repository: Repository) -> None:
    repository.branches.create("back", place.dead)
    session = written(repository, {"on": b"on"}, "back")
    place.later.append(lambda: session.commit("on"))
    place.promised["back"] = {**KEPT_VALUES, **DEAD, "on": b"on"}


def names_it(place: Place, repository: Repository) -> None:
    repository.tags.create("v1", place.dead)
    place.promised["v1"] = {"kept": KEPT, **DEAD}


def moves_a_branch_to_it(place: Place, repository: Repository) -> None:
    repository.branches.create("other")
    repository.branches.move("other", place.dead)
    place.promised["other"] = {"kept": KEPT, **DEAD}


def merges_it(place: Place, repository: Repository) -> None:
    repository.merge(place.dead, resolve="ours")
    place.promised["main"] = {**KEPT_VALUES, **DEAD}


def picks_it(place: Place, repository: Repository) -> None:
    repository.cherry_pick(place.dead)
    values = {key: value for key, value in DEAD.items() if key != "dead/beside"}
    place.promised["main"] = {**KEPT_VALUES, **values}


def pushes_it(place: Place, repository: Repository) -> None:
    copy = vz.create(f"memory://{uuid.uuid4()}")
    copy.remotes.add("here", place.url)
    written(copy, {**KEPT_VALUES, **DEAD}).commit("the same values")
    copy.push("here", "main:pushed")
    place.promised["pushed"] = {**KEPT_VALUES, **DEAD}


ACTS = [
    commits,
    commits_the_same_tree,
    writes_into_a_session,
    leaves_a_session,
    commits_a_part,
    writes_a_part_into_a_session,
    leaves_a_session_with_a_part,
    opens_a_session_on_it,
    names_it,
    moves_a_branch_to_it,
    merges_it,
    picks_it,
    pushes_it,
]


@pytest.fixture
def others(place: Place) -> Repository:
    """Another object, which knows all packs since before gc began."""
    repository = place.opened()
    repository.checkout(place.dead).read("dead/alone")
    return repository


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("is_mixed", "nth"),
    [(False, 1), (True, 1), (True, 2)],
    ids=["before what is wholly dead goes", "before it copies", "when it has copied"],
)
def test_what_comes_before_gc_takes_its_lock_is_kept(
    place: Place, others: Repository, act: Callable[..., None], is_mixed: bool, nth: int
) -> None:
    repository = place.opened()
    if is_mixed:
        repository.repack()  # the dead lie beside the living
    with before_lock(repository._stores.storage, GC_LOCK, lambda: act(place, others), nth=nth):
        repository.gc(keep_reflog=NOW)
    place.check()
    repository.gc(keep_reflog=NOW)
    place.check()


@pytest.mark.parametrize("act", ACTS)
def test_what_comes_while_gc_copies_is_kept(
    place: Place, others: Repository, act: Callable[..., None]
) -> None:
    repository = place.opened()
    repository.repack()
    told: list[int] = []

    def progress(progress: vz.Progress) -> None:
        if progress.done and not any(told):
            act(place, others)
        told.append(progress.done)

    repository.gc(keep_reflog=NOW, progress=progress)
    assert any(told)
    place.check()


def use_again(url: str) -> None:
    """In another process: use dead values in a commit, and in a session that is left."""
    repository = vz.open(url)
    written(repository, DEAD).commit("again")
    written(repository, {f"left/{key}": value for key, value in DEAD.items()})._working.end(
        "died", keep_folder=True
    )


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_what_another_process_uses_again_is_kept(place: Place, nth: int) -> None:
    repository = place.opened()
    repository.repack()

    def act() -> None:
        process = SPAWN.Process(target=use_again, args=(place.url,))
        process.start()
        process.join()
        assert process.exitcode == 0

    with before_lock(repository._stores.storage, GC_LOCK, act, nth=nth):
        repository.gc(keep_reflog=NOW)
    place.promised["main"] = {**KEPT_VALUES, **DEAD}
    place.check()
    (left,) = repository.sessions.values()
    repository.resume(left.id).commit("resumed")
    place.promised["main"] |= {f"left/{key}": value for key, value in DEAD.items()}
    place.check()


def test_what_is_dead_still_goes(place: Place, others: Repository) -> None:
    repository = place.opened()
    with before_lock(
        repository._stores.storage, GC_LOCK, lambda: written(others, {"x": ALONE}).commit("x")
    ):
        assert repository.gc(keep_reflog=NOW).removed_packs
    repository.gc(keep_reflog=NOW)
    place.promised["main"] = {**KEPT_VALUES, "x": ALONE}
    place.check()
    assert not repository.fsck().unreferenced
    with pytest.raises(vz.NotFoundError):
        place.opened().checkout(place.dead)


# gc that comes while others are in the midst of it.


def stored_again(place: Place, repository: Repository) -> None:
    written(repository, {"new": ALONE[::-1]}).commit("new")
    place.promised["main"] = {**KEPT_VALUES, "new": ALONE[::-1]}


def reverted(place: Place, repository: Repository) -> None:
    repository.revert("main")
    place.promised["main"] = {"top": b"top"}


def squashed(place: Place, repository: Repository) -> None:
    repository.squash("main~1")
    place.promised["main"] = KEPT_VALUES


MOVES = [act for act in ACTS if "session" not in act.__name__]


@pytest.mark.parametrize("act", [*MOVES, stored_again, reverted, squashed])
def test_gc_takes_nothing_from_who_is_about_to_move_a_ref(
    place: Place, others: Repository, act: Callable[..., None]
) -> None:
    storage = others._stores.storage
    with before_lock(storage, "refs", place.collect_unless_held_off, nth=None):
        act(place, others)
    place.check()
