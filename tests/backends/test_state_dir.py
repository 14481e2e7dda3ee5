"""The state directory is where files can be locked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.sharedfolder.machines import REFUSING, ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")
SCRIPT = """if True:
    import os
    import versioned_zarr as vz
    repository = vz.create(os.path.join(sys.argv[2], "r.vz"), shared=True)
    with repository.session("main", message="one") as session:
        session.write("a", b"1")
        session.repository._stores.storage.lock("x").__enter__()
    print(bytes(vz.open(os.path.join(sys.argv[2], "r.vz")).checkout().read("a")))
"""


def run(home: Path, refusing: Path, temporary: Path, repository: Path) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING + SCRIPT, str(refusing), str(repository)],
        cwd=ROOT,
        env={
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "VERSIONED_ZARR_HOME": str(home),
            "TMPDIR": str(temporary),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def folders(parent: Path) -> list[Path]:
    found = [parent / name for name in ("home", "temporary", "repository")]
    for each in found:
        each.mkdir()
    return found


def test_without_locks_at_home_sessions_are_among_the_temporary_files(tmp_path: Path) -> None:
    home, temporary, repository = folders(tmp_path)
    said, warned = run(home, home, temporary, repository)
    assert said == "b'1'"
    assert f"files in {home} cannot be locked" in warned
    (used,) = temporary.iterdir()
    assert used.stat().st_mode & 0o777 == 0o700
    assert [*used.rglob("*")]
    assert not [*home.iterdir()]


def test_with_locks_at_home_sessions_are_there(tmp_path: Path) -> None:
    home, temporary, repository = folders(tmp_path)
    said, warned = run(home, repository, temporary, repository)
    assert (said, warned) == ("b'1'", "")
    assert not [*temporary.iterdir()]
    assert [*home.iterdir()]
