"""Machines that share a folder and nothing else write into one session."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.backends.sharedfolder.machines import (
    REFUSING,
    machine,
    namespace_command,
    on_another_host,
    output,
)

WORKER = """if True:
    import sys
    import versioned_zarr as vz
    session = vz.open(sys.argv[1]).resume(sys.argv[2])
    for number in range(int(sys.argv[4])):
        session.write(f"{sys.argv[3]}/{number}", sys.argv[3].encode() * 1000)
    print(sys.argv[3], flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are of Linux")
def test_machines_without_locks_and_maps_write_into_one_session(tmp_path: Path) -> None:
    command = namespace_command()
    shared = tmp_path / "shared"
    shared.mkdir()
    session = vz.create(shared / "r.vz", shared=True).session()
    session.write("first", b"1")
    assert session.id in session.url
    with contextlib.ExitStack() as stack:
        workers = []
        for number in range(3):
            at = tmp_path / f"mount{number}"
            at.mkdir()
            arguments = (at / "r.vz", session.id, f"m{number}", 20)
            before = on_another_host(command, shared, at)
            home = tmp_path / f"home{number}"
            workers.append(
                stack.enter_context(
                    machine(WORKER, *arguments, home=home, before=before, start=REFUSING)
                )
            )
        assert [output(each) for each in workers] == [["m0"], ["m1"], ["m2"]]
    session.commit("all machines")
    snapshot = vz.open(shared / "r.vz").checkout()
    found = {key: bytes(snapshot.read(key)) for key in sorted(snapshot.keys())}
    assert found == {
        "first": b"1",
        **{f"m{n}/{number}": f"m{n}".encode() * 1000 for n in range(3) for number in range(20)},
    }
