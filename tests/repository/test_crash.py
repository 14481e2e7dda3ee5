"""kill -9 at any moment: what was acknowledged is there, and the repository opens as it is."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import versioned_zarr as vz

KILLS = 100
ROOT = Path(__file__).parents[2]


def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.repository.workers", name, *arguments]
    return subprocess.Popen(command, env=environment, cwd=ROOT)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def check_notes(url: str, notes: list[list[str]]) -> None:
    """Every acknowledged commit is in the log; the journal holds what came after the last."""
    repository = vz.open(url)
    log = {commit.cid for commit in repository.log()}
    ((_, session),) = [line for line in notes if line[0] == "session"]
    commits = [number for number, line in enumerate(notes) if line[0] == "commit"]
    for number in commits:
        assert notes[number][1] in log
    since = notes[commits[-1] + 1 if commits else 1 :]
    written = {line[1]: (line[2], int(line[3])) for line in since if line[0] == "wrote"}
    if not written:
        return
    infos = dict(repository.sessions.items())
    if session in infos:
        assert not infos[session].is_alive
        resumed = repository.resume(session)
        for key, (number, size) in written.items():
            value = bytes(resumed.read(key))
            later = int(value.split(b"=", 1)[1].split(key.encode())[0])
            assert later > int(number) or (later == int(number) and len(value) == size)
        with contextlib.suppress(vz.NothingToCommitError):
            resumed.commit("what the dead one left")
        resumed.discard()
    values = repository.checkout().mapping
    for key, (number, _) in written.items():
        assert int(values[key].split(b"=", 1)[1].split(key.encode())[0]) >= int(number)


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    url = str(tmp_path / "r.vz")
    vz.create(url)
    chance = random.Random(1)
    for number in range(KILLS):
        note = tmp_path / f"{number}.txt"
        process = start("write_for_ever", url, str(note))
        wait_for(note, process)
        time.sleep(chance.uniform(0, 0.12))
        kill(process)
        lines = note.read_text().splitlines()
        if not note.read_text().endswith("\n"):
            lines.pop()
        check_notes(url, [line.split() for line in lines])
        if number % 20 == 19:
            report = vz.open(url).fsck()
            assert report.is_clean, str(report)


@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_gc_and_repack_killed_beside_a_writer_lose_nothing(tmp_path: Path, kills: int) -> None:
    url = str(tmp_path / "r.vz")
    vz.create(url)
    chance = random.Random(2)
    note = tmp_path / "writer.txt"
    writer = start("write_for_ever", url, str(note))
    wait_for(note, writer)
    try:
        for number in range(kills):
            started = tmp_path / f"house{number}.txt"
            keeper = start("keep_house_for_ever", url, str(started))
            wait_for(started, keeper)
            time.sleep(chance.uniform(0, 0.3))
            kill(keeper)
            assert writer.poll() is None
    finally:
        kill(writer)
    report = vz.open(url).fsck()
    assert report.is_clean, str(report)
    lines = note.read_text().splitlines()
    if not note.read_text().endswith("\n"):
        lines.pop()
    check_notes(url, [line.split() for line in lines])
    vz.open(url).gc()
    assert vz.open(url).fsck().is_clean
