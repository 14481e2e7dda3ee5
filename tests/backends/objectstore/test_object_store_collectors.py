"""Collectors on two machines beside writers on others, whose clocks are days apart."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.backends.objectstore import collecting
from tests.backends.objectstore.test_object_store_faults import LOSSES, ONE_IN, new_url
from tests.servers.fickle import Fickle, nothing, now_and_then
from tests.servers.versity import S3Server
from tests.torture import SEED, TIMES

pytest.importorskip("obstore")

pytestmark = pytest.mark.compat

SPAWN = multiprocessing.get_context("spawn")
WRITERS = 3
ROUNDS = 6 * min(TIMES, 8)


@pytest.mark.parametrize("way", ["direct", "lossy"])
def test_two_collectors_take_nothing_that_is_used(
    between: Fickle,
    server: S3Server,
    environment: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    way: str,
) -> None:
    between.begin(nothing if way == "direct" else now_and_then(LOSSES, ONE_IN, SEED))
    environment(server.endpoint if way == "direct" else between.url)
    url = new_url()
    repo = vz.create(url)
    stop = tmp_path / "stop"

    def process(days: int, task: Callable[..., None], *arguments: object) -> SpawnProcess:
        home = str(tmp_path / f"home{days}")
        return SPAWN.Process(
            target=collecting.on_a_machine, args=(home, days, task, url, *arguments)
        )

    notes = [tmp_path / f"{n}.txt" for n in range(WRITERS)]
    collectors = [process(days, collecting.collect, str(stop)) for days in (-3, 4)]
    writers = [
        process(n - 1, collecting.churn, n, ROUNDS, str(note)) for n, note in enumerate(notes)
    ]
    for each in (*collectors, *writers):
        each.start()
    try:
        for each in writers:
            each.join(400)
    finally:
        stop.touch()
        for each in collectors:
            each.join(100)
    assert [each.exitcode for each in (*writers, *collectors)] == [0] * (WRITERS + 2)
    environment(server.endpoint)
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "fresh"))
    repo = vz.open(url)
    lines = [line.split() for note in notes for line in note.read_text().splitlines()]
    assert len(lines) == WRITERS * ROUNDS
    log = {commit.cid for commit in repo.log()}
    mapping = repo.checkout().mapping
    for cid, *keys in lines:
        assert cid in log
        for key in keys:
            number, turn = map(int, key[1:].partition("/")[0].split("-"))
            assert mapping[key] == bytes([number, turn, int(key[-1])]) * 2000
    assert repo.fsck(read_all=True).is_clean
    repo.gc(keep_reflog=timedelta(0))
    assert repo.gc(keep_reflog=timedelta(0), dry_run=True).removed_blocks == 0
    assert repo.fsck(read_all=True).is_clean
