"""Processes that share a folder and nothing else: no commit is lost, and nothing is left undone."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.backends.sharedfolder.machines import (
    REFUSING,
    STORM,
    machine,
    namespace_command,
    on_another_host,
    output,
)
from tests.backends.test_lakefs_concurrency import check_a_storm, check_the_accounts
from tests.torture import SEED, TIMES

COMMITS = 5 if TIMES == 1 else 40
STRIDE = max(1, 7 // TIMES)


def check_all(repository: vz.Repository, lines: list[str]) -> None:
    """Every acknowledged commit is in the log, and each of its values can be read."""
    log = {commit.cid for commit in repository.log()}
    mapping = repository.checkout().mapping
    for line in lines:
        cid, key = line.split()
        assert cid in log
        assert mapping[key] == b"x" * 5000
    assert len(log) == 1 + len(lines)
    assert repository.fsck(read_all=True).is_clean


@pytest.mark.slow
def test_no_acknowledged_commit_is_lost_in_a_storm(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    check_a_storm(repository, tmp_path, machines=3, commits=COMMITS)


@pytest.mark.torture
def test_the_sum_of_all_accounts_never_changes(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    check_the_accounts(repository, tmp_path, machines=3, transfers=COMMITS)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")
def test_machines_with_other_names_mounts_and_process_numbers_share_a_folder(
    tmp_path: Path,
) -> None:
    command = namespace_command()
    shared = tmp_path / "shared"
    shared.mkdir()
    repository = vz.create(shared / "r.vz", shared=True)
    with contextlib.ExitStack() as stack:
        processes = []
        for number in range(3):
            at = tmp_path / f"mount{number}"
            at.mkdir()
            before = on_another_host(command, shared, at)
            home = tmp_path / f"home{number}"
            arguments = (at / "r.vz", f"m{number}", COMMITS)
            processes.append(
                stack.enter_context(
                    machine(STORM, *arguments, home=home, before=before, start=REFUSING)
                )
            )
        lines = [line for each in processes for line in output(each)]
    check_all(repository, lines)


def test_a_folder_without_locks_and_maps_is_written_and_read(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from datetime import timedelta
        import versioned_zarr as vz
        repository = vz.create(sys.argv[1], shared=True)
        with repository.session(message="one") as session:
            session.write("a", b"1" * 3_000_000)
        repository.branches.create("dev")
        with repository.session("dev", message="two") as session:
            session.write("b", b"2")
        repository.merge("dev")
        repository.branches.delete("dev")
        assert bytes(repository.checkout().read("a")) == b"1" * 3_000_000
        assert repository.fsck(read_all=True).is_clean
        repository.repack()
        repository.gc(keep_reflog=timedelta(0))
        assert repository.fsck(read_all=True).is_clean
        print(sorted(repository.checkout().mapping))
    """
    path = tmp_path / "shared" / "r.vz"
    with machine(script, path, home=tmp_path / "home", start=REFUSING) as process:
        assert output(process) == ["['a', 'b']"]
    refused = script.replace("shared=True", "shared=False")
    with machine(refused, tmp_path / "own.vz", home=tmp_path / "home", start=REFUSING) as process:
        assert "no file locks" in process.communicate(timeout=100)[1]


@pytest.mark.parametrize("has_msvcrt", [True, False])
def test_a_folder_is_read_without_modules_of_posix_and_written_with_locks_at_home(
    tmp_path: Path, has_msvcrt: bool
) -> None:
    with vz.create(tmp_path / "r.vz", shared=True).session(message="x") as session:
        session.write("a", b"1" * 3_000_000)
    start = f"from tests.without_posix import install; install(has_msvcrt={has_msvcrt})\n"
    script = """if True:
        import sys
        import versioned_zarr as vz
        repository = vz.open(sys.argv[1])
        assert bytes(repository.checkout().read("a")) == b"1" * 3_000_000
        if sys.argv[2] == "True":
            with repository.session(message="y") as session:
                session.write("b", b"2")
            other = vz.create(sys.argv[1] + "2", shared=True)
            assert repository.fsck(read_all=True).is_clean
    """
    with machine(
        script, tmp_path / "r.vz", has_msvcrt, home=tmp_path / "home", start=start
    ) as process:
        output(process)
    if has_msvcrt:
        assert bytes(vz.open(tmp_path / "r.vz").checkout().read("b")) == b"2"


KILLED = """if True:
    import os, signal, sys
    import versioned_zarr as vz
    from versioned_zarr.backends.sharedfolder import folder_calls
    left = int(sys.argv[2])

    def counted(call, is_after):
        def made(*arguments):
            global left
            left -= 1
            if left == 0 and not is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*arguments)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        return made

    for name in ("open_new", "sync_file", "sync_folder", "link", "replace", "unlink"):
        call = counted(getattr(folder_calls, name), sys.argv[3] == "after")
        setattr(folder_calls, name, call)
    session = vz.open(sys.argv[1]).session()
    for number in range(2):
        session.write(f"a/{number}", bytes([number]) * 3000)
        session.write(f"big/{number}", bytes([number]) * (300 << 10))
        print("wrote", flush=True)
        print(session.commit(f"commit {number}").cid, flush=True)
"""


@pytest.mark.torture
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", ["with links", "without links"])
def test_a_commit_that_was_killed_is_done_or_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, kind: str
) -> None:
    number, stride = 1 + SEED % STRIDE, STRIDE
    no_links = "import os\ndef link(*given): raise PermissionError(1, 'no links')\nos.link = link\n"
    while True:
        home, path = tmp_path / f"home{number}", tmp_path / f"{number}.vz"
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(home))
        vz.create(path, shared=True)
        start = "" if kind == "with links" else no_links
        with machine(KILLED, path, number, moment, home=home, start=start) as process:
            said, wrong = process.communicate(timeout=100)
        was_killed = process.returncode == -signal.SIGKILL
        assert was_killed or process.returncode == 0, wrong
        commits = [line for line in said.splitlines() if line != "wrote"]
        written = said.count("wrote")
        repository = vz.open(path)
        log = [commit.cid for commit in repository.log()]
        assert log[len(log) - 1 - len(commits) : -1] == commits[::-1]
        assert len(commits) <= len(log) - 1 <= written
        for info in list(repository.sessions.values()):
            session = repository.resume(info.id)
            with contextlib.suppress(vz.NothingToCommitError):
                session.commit("resumed")
            session.discard()
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / f"other{number}"))
        other = vz.open(path)
        for each in range(written):
            assert other.checkout().mapping[f"a/{each}"] == bytes([each]) * 3000
            assert other.checkout().mapping[f"big/{each}"] == bytes([each]) * (300 << 10)
        with other.session(message="goes on") as session:
            session.write("z", b"1")
        assert other.fsck(read_all=True).is_clean
        if not was_killed:
            assert number > 8
            return
        number += stride


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")
def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    command = namespace_command()
    script = """if True:
        import sys
        import versioned_zarr as vz
        repository = vz.create(sys.argv[1], shared=True)
        with repository.session(message="fits") as session:
            session.write("a", b"1" * 1000)
        session = repository.session()
        session.write("b", bytes(range(256)) * (40 << 10))
        try:
            session.commit("does not fit")
        except vz.StorageFullError as error:
            assert "no space left" in str(error) and "packs" in str(error), error
        else:
            raise AssertionError
        assert repository.fsck(read_all=True).is_clean
        print([commit.message for commit in repository.log()][0], sorted(session.mapping))
    """
    at = tmp_path / "full"
    at.mkdir()
    set_up = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    before = (*command, "sh", "-c", set_up, str(at))
    with machine(script, at / "r.vz", home=tmp_path / "home", before=before) as process:
        assert output(process) == ["fits ['a', 'b']"]


def limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_a_file_that_becomes_too_large_is_told(tmp_path: Path) -> None:
    script = """if True:
        import sys
        import versioned_zarr as vz
        from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage
        files = SharedFolderStorage(sys.argv[1], "file:///r")
        files.put("packs/a", [b"1"])
        try:
            files.put("packs/b", [bytes(300_000)])
        except vz.StorageError as error:
            assert "packs/b" in str(error), error
        else:
            raise AssertionError
        print([each.path for each in files.list("")])
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "r")],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=limit_files,
    )
    assert done.stdout == "['packs/a']\n"


def test_a_forked_child_reads_and_writes(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    with repository.session(message="x") as session:
        session.write("a", b"1" * 500_000)
    fresh = vz.open(tmp_path / "r.vz", verify="always")
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            assert bytes(fresh.checkout().read("a")) == b"1" * 500_000
            with fresh.session(message="child") as session:
                session.write("b", b"2")
            code = 0
        os._exit(code)
    deadline = time.monotonic() + 120
    ended = 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for a thread of its parent")
    assert status == 0
    assert bytes(repository.checkout().read("b")) == b"2"
