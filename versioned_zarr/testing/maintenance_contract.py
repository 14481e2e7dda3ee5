"""The contract of maintenance: gc, repack and fsck of repositories that store blocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.repository.repository import Repository
from versioned_zarr.testing.history_contract import commit_values, contents


class MaintenanceContract:
    """Subclass it with a fixture `repository` (a new one).

    Attributes:
        keeps_packs: whether the repository stores the blocks in packs, so that `gc` and `repack`
            apply; otherwise a server stores them and removes unreachable ones.
        fsck_reads_packs: whether `fsck` reads packs, rather than what refs reach.
    """

    keeps_packs = True
    fsck_reads_packs = True

    def test_gc_takes_only_what_nothing_reaches(self, repository: Repository) -> None:
        commit_values(repository, {"a": b"1" * 1000})
        repository.branches.create("dev")
        commit_values(repository, {"b": b"2" * 1000}, "lost", "dev")
        repository.branches.delete("dev")
        open_session = repository.session()
        open_session.write("c", b"3")
        assert repository.gc().removed_blocks == 0
        dry = repository.gc(keep_reflog=timedelta(0), dry_run=True)
        assert (dry.removed_blocks > 0) == self.keeps_packs
        done = repository.gc(keep_reflog=timedelta(0))
        assert done.removed_blocks == dry.removed_blocks
        report = repository.fsck()
        assert report.is_clean
        assert report.unreferenced == []
        open_session.commit("kept")
        assert contents(repository) == {"a": b"1" * 1000, "c": b"3"}

    def test_keeping_says_how_far_it_is(self, repository: Repository) -> None:
        for number in range(3):
            commit_values(repository, {f"a/{number}": bytes([number]) * 100}, str(number))
        keeping: list[Callable[[OnProgress], object]] = [
            lambda tell: repository.gc(dry_run=True, progress=tell),
            lambda tell: repository.gc(progress=tell),
            lambda tell: repository.repack(progress=tell),
        ]
        if self.fsck_reads_packs:
            keeping.append(lambda tell: repository.fsck(progress=tell))
        for keep in keeping:
            told: list[Progress] = []
            keep(told.append)
            assert told[0].done == 0
            assert told[-1].done == (told[-1].total or 0)
            assert bool(told[-1].total) == self.keeps_packs
            assert [each.done for each in told] == sorted(each.done for each in told)
            assert {(each.unit, each.total) for each in told} == {("bytes", told[0].total)}
            assert all(
                (each.done_bytes, each.total_bytes) == (each.done, each.total) for each in told
            )

    def test_repack_changes_nothing_that_is_read(self, repository: Repository) -> None:
        for number in range(10):
            commit_values(repository, {f"a/{number}": bytes([number]) * 100}, str(number))
        before = contents(repository)
        assert (repository.repack().removed_packs > 0) == self.keeps_packs
        assert contents(repository) == before
        assert repository.fsck().is_clean
        assert repository.stats().packs <= 2 or not self.keeps_packs
