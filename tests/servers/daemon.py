"""A real Kubo daemon, offline, on ports that the system chose; stopped by its process id."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.kubo import PROFILE, Kubo, find_binary
from tests.servers.programs import missing

_START_S = 60
_LISTENING = re.compile(r"(RPC API|Gateway) server listening on /ip4/127.0.0.1/tcp/(\d+)")


@dataclass
class Daemon:
    """A running node.

    Attributes:
        kubo: its commands; they speak to the daemon, as the repository is its.
        rpc: the address of its RPC.
        gateway: the address of its gateway.
        process: the daemon.
    """

    kubo: Kubo
    rpc: str
    gateway: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """What repositories on it are called, but for the name."""
        return f"ipfs+{self.rpc}"

    def ipfs(self, *arguments: str) -> bytes:
        """Run one command against the daemon."""
        try:
            return subprocess.run(
                [self.kubo.binary, *arguments],
                env={"IPFS_PATH": str(self.kubo.repository), "HOME": str(self.kubo.repository)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=300,
            ).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr.decode(errors="replace"))
            raise


def start(folder: Path) -> Daemon:
    """Start a node in an empty folder."""
    binary = find_binary()
    if not binary.is_file():
        missing(f"no Kubo at {binary}")
    kubo = Kubo(binary, folder)
    kubo.run("init", "--profile=test")
    kubo.run("config", "profile", "apply", PROFILE)
    for name in ("API", "Gateway"):
        kubo.run("config", f"Addresses.{name}", "/ip4/127.0.0.1/tcp/0")
    kubo.run("config", "--json", "Addresses.Swarm", json.dumps([]))
    process = subprocess.Popen(
        [binary, "daemon", "--offline"],
        env={"IPFS_PATH": str(folder), "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found: dict[str, str] = {}
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            match = _LISTENING.search(line)
            if match:
                found[match[1]] = f"http://127.0.0.1:{match[2]}"
            if "Daemon is ready" in line:
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    if not ready.wait(_START_S) or len(found) < 2:
        process.kill()
        raise RuntimeError(f"Kubo did not start: {''.join(lines)}")
    return Daemon(kubo, found["RPC API"], found["Gateway"], process)


def stop(daemon: Daemon) -> None:
    """Stop a node and wait for its end."""
    daemon.process.terminate()
    try:
        daemon.process.wait(30)
    except subprocess.TimeoutExpired:
        daemon.process.kill()
        daemon.process.wait()
    if daemon.process.stdout is not None:
        daemon.process.stdout.close()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A real Kubo node for the whole run."""
    daemon = start(tmp_path_factory.mktemp("node"))
    try:
        yield daemon
    finally:
        stop(daemon)
