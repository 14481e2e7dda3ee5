"""A real S3 gateway over a folder, on a port that was free; stopped by its process id."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.programs import find_program, free_port, missing

VERSION = "1.8.0"
_START_S = 60


@dataclass(frozen=True)
class S3Server:
    """An S3 server with one bucket.

    Attributes:
        endpoint: its URL.
        bucket: the bucket that is there.
        access_key_id: who may do anything.
        secret_access_key: that one's secret.
    """

    endpoint: str
    bucket: str = "bucket"
    access_key_id: str = "for-the-tests"
    secret_access_key: str = "on-loopback-only"


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server for the length of a block, with its data in a folder."""
    binary = find_program("VERSIONED_ZARR_VERSITYGW", f"versitygw-{VERSION}", "versitygw")
    if not binary.is_file():
        missing(f"no versitygw at {binary}")
    address = f"127.0.0.1:{free_port()}"
    server = S3Server(f"http://{address}")
    (folder / "data" / server.bucket).mkdir(parents=True)
    credentials = {
        "ROOT_ACCESS_KEY": server.access_key_id,
        "ROOT_SECRET_KEY": server.secret_access_key,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "--port", address, "posix", folder / "data"],
            cwd=folder,
            env=credentials,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(server.endpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text(errors="replace"))
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=1).close()
    except urllib.error.HTTPError:
        return True  # it wants credentials
    except OSError:
        return False
    return True
