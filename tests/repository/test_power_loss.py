"""A loss of power at any moment: what was acknowledged as durable is there; the rest stops nothing.

What a life of a repository does to its files is recorded once. Every prefix of that is a moment;
what the disk may have kept of it is drawn at random, for two kinds of file systems.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.disk import Disk
from tests.repository.recorder import Recorder, recording
from tests.torture import chances

CASES = 40
Values = dict[str, bytes]


def live(recorder: Recorder, place: Path) -> None:
    """Make a repository, and do in it what people do; note each thing that was acknowledged."""
    chance = random.Random(7)
    repository = vz.create(place)
    recorder.mark(("created",))
    expected: Values = {}

    def commit(session: vz.Session, values: Values) -> None:
        for key, value in values.items():
            session.write(key, value)
        branch = session.branch
        made = session.commit("x")
        recorder.mark(("commit", branch, made.cid, {**expected, **values}))

    with repository.session() as session:
        for values in (
            {"a/zarr.json": b"{}", "a/c/0": chance.randbytes(300)},
            {"a/c/1": chance.randbytes(1_200_000), "a/c/2": chance.randbytes(300_000)},
        ):
            commit(session, values)
            expected.update(values)
    repository.branches.create("dev")
    recorder.mark(("branch", "dev", repository.branches["dev"].cid))
    with repository.session("dev") as session:
        commit(session, {"b": chance.randbytes(500)})
    merged = repository.merge("dev")
    recorder.mark(("commit", "main", merged.cid, {}))
    repository.tags.create("v1")
    repository.branches.create("old")
    repository.branches.rename("old", "new")
    recorder.mark(("branch", "new", merged.cid))
    repository.branches.delete("new")
    dropped = repository.session()
    dropped.write("dropped", chance.randbytes(400_000))
    dropped.discard()
    recorder.mark(("discarded", dropped.id))
    repository.branches.create("rewound")
    with repository.session("rewound") as session:
        commit(session, {"c": chance.randbytes(400_000)})
    repository.branches.delete("rewound")
    recorder.mark(("deleted", "rewound"))
    repository.gc(keep_reflog=timedelta(0))
    repository.repack()
    left = repository.session()
    for number in range(3):
        left.write(f"left/{number}", b"%d" % number * 50_000)
    left._working.end("died", keep_folder=True)


def check(place: Path, facts: list[tuple[object, ...]]) -> None:
    """What was acknowledged is there, and everything goes on."""
    if ("created",) not in facts:
        with contextlib.suppress(vz.VersionedZarrError):
            vz.create(place)
        assert vz.open(place).checkout().mapping == {}
        return
    repository = vz.open(place, verify="always")
    deleted = {fact[1] for fact in facts if fact[0] == "deleted"}
    for fact in facts:
        if fact[0] == "commit" and fact[1] not in deleted and fact[1] in repository.branches:
            assert fact[2] in {commit.cid for commit in repository.log(str(fact[1]))}
            snapshot = repository.checkout(str(fact[2]))
            for key, value in dict(fact[3]).items():  # type: ignore[call-overload]  # of any type
                assert bytes(snapshot.read(key)) == value
    assert "main" in repository.branches
    discarded = {fact[1] for fact in facts if fact[0] == "discarded"}
    for info in repository.sessions.values():
        assert info.id not in discarded
        # What the journal says of a commit that was made may be lost: it conflicts with itself.
        with contextlib.suppress(
            vz.CorruptJournalError, vz.NothingToCommitError, vz.ConflictError, vz.RefNotFoundError
        ):
            resumed = repository.resume(info.id)
            for key in resumed.keys("left"):
                assert bytes(resumed.read(key)) == key[-1].encode() * 50_000
            resumed.commit("what is left")
    report = repository.fsck()
    damaged = [*report.damaged, *report.missing]
    assert all(damage.where.startswith("sessions/") for damage in damaged), str(report)
    repository.gc(keep_reflog=timedelta(0))
    with repository.session(message="goes on") as session:
        session.write("on", b"1")
    again = vz.open(place, verify="always")
    for branch in again.branches:
        for key in list(again.checkout(branch).keys()):
            again.checkout(branch).read(key)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    place = tmp_path_factory.mktemp("life") / "r.vz"
    with recording(place) as recorder:
        live(recorder, place)
    return recorder


@pytest.mark.torture
@pytest.mark.parametrize("is_strict", [False, True], ids=["ordered", "strict"])
def test_what_was_acknowledged_survives_a_loss_of_power(
    life: Recorder, tmp_path: Path, is_strict: bool
) -> None:
    for seed, chance in chances(CASES):
        moment = chance.randint(0, len(life.ops))
        disk = Disk(is_strict=is_strict)
        disk.do(life.ops[:moment])
        place = tmp_path / f"{seed}.vz"
        place.mkdir()
        disk.crash(chance, place)
        facts = [op.fact for op in life.ops[:moment] if op.what == "mark"]
        try:
            check(place, facts)
        except Exception as error:
            error.add_note(
                f"seed {seed}: power lost after {life.shown()[max(0, moment - 3) : moment]}"
            )
            raise
        shutil.rmtree(place)
