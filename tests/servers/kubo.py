"""A real Kubo: its binary, run offline on a repository of its own in a temporary folder.

Knows where the binary is and how its commands are called; starts no daemon.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.programs import find_program, missing

VERSION = "0.42.0"
# What makes Kubo's defaults those of IPIP-499: raw leaves of 1 MiB, 1024 links, CIDv1, HAMT by
# the size of the block.
PROFILE = "unixfs-v1-2025"


@dataclass(frozen=True)
class Kubo:
    """Kubo's command `ipfs` on one repository.

    Attributes:
        binary: the program.
        repository: its IPFS_PATH.
    """

    binary: Path
    repository: Path

    def run(self, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
        """Run one command without a daemon; return what it wrote.

        Raises:
            subprocess.CalledProcessError: it failed; what it said is among the error's notes.
        """
        try:
            done = subprocess.run(
                [self.binary, "--offline", *arguments],
                env={"IPFS_PATH": str(self.repository), "HOME": str(self.repository)},
                input=stdin,
                stdin=None if stdin is not None else subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=300,
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr.decode(errors="replace"))
            raise
        return done.stdout

    def add_only_hash(self, folder: Path, hash: str = "sha2-256") -> str:
        """The CID that Kubo gives to a folder, without storing anything."""
        return self._add(folder, "--only-hash", f"--hash={hash}")

    def add(self, folder: Path, hash: str = "sha2-256") -> str:
        """Store a folder; return its CID."""
        return self._add(folder, f"--hash={hash}")

    def _add(self, folder: Path, *options: str) -> str:
        words = ["add", "-r", "-Q", "--hidden", "--cid-version=1", *options, folder]
        return self.run(*words).decode().strip()

    def dag_import(self, car: Path, *, pin_roots: bool = True) -> list[str]:
        """Import a CAR; return what Kubo said, a line for each root and one that counts."""
        words = ["dag", "import", f"--pin-roots={str(pin_roots).lower()}", "--stats", car]
        return self.run(*words).decode().splitlines()

    def dag_export(self, cid: str) -> bytes:
        """The CAR of everything under a CID."""
        return self.run("dag", "export", "--progress=false", cid)

    def dag_stat(self, cid: str) -> str:
        """How many blocks and bytes lie under a CID, as Kubo words it."""
        return self.run("dag", "stat", "--progress=false", cid).decode()

    def block_get(self, cid: str) -> bytes:
        """The bytes of one block."""
        return self.run("block", "get", cid)

    def block_put(self, block: bytes, codec: str = "raw", hash: str = "sha2-256") -> str:
        """Store one block; return its CID."""
        words = ["block", "put", f"--cid-codec={codec}", f"--mhtype={hash}"]
        return self.run(*words, stdin=block).decode().strip()

    def cat(self, path: str) -> bytes:
        """The bytes of the UnixFS file at a path such as `CID/a/zarr.json`."""
        return self.run("cat", path)

    def ls(self, path: str) -> dict[str, str]:
        """The names in a directory, each with its CID."""
        # Without sizes and types a line is "CID NAME", with exactly one space between.
        listed = self.run("ls", "--size=false", "--resolve-type=false", path).decode()
        lines = (line.split(" ", 1) for line in listed.splitlines())
        return {name: cid for cid, name in lines}

    def get(self, cid: str, target: Path) -> None:
        """Write the folder or file of a CID to `target`."""
        self.run("get", f"--output={target}", "--progress=false", cid)


def find_binary() -> Path:
    """The built `ipfs`."""
    return find_program("VERSIONED_ZARR_KUBO", f"kubo-{VERSION}", "ipfs")


@pytest.fixture(scope="session")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Kubo:
    """A real Kubo, empty at first, whose defaults are the profile that versioned_zarr follows."""
    binary = find_binary()
    if not binary.is_file():
        missing(f"no Kubo at {binary}")
    program = Kubo(binary, tmp_path_factory.mktemp("kubo"))
    program.run("init", "--profile=test")
    program.run("config", "profile", "apply", PROFILE)
    return program
