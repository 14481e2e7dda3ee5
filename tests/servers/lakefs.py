"""A real lakeFS server with a local store, on a port that was free; stopped by its process id."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import versioned_zarr as vz
from tests.servers.programs import find_program, free_port, missing

if TYPE_CHECKING:
    from tests.servers.versity import S3Server
    from versioned_zarr.backends.lakefs.api.client import LakefsClient
    from versioned_zarr.repository.repository import Repository

VERSION = "1.84.0"
_START_S = 60
# The server is made with them, on this machine alone.
_ACCESS_KEY_ID = "AKIAIOSFODNN7TESTKEY"
_SECRET_ACCESS_KEY = "made-for-the-tests-on-loopback-only"


@dataclass
class LakefsServer:
    """A lakeFS server; `start` it again after `kill`, on the same data and port.

    Attributes:
        folder: where its data lie.
        endpoint: its URL.
        settings: environment variables that it is started with, beside the usual ones.
        namespace: where its repositories are stored.
    """

    folder: Path
    endpoint: str
    settings: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "local:/"
    process: subprocess.Popen[bytes] | None = None
    access_key_id: str = _ACCESS_KEY_ID
    secret_access_key: str = _SECRET_ACCESS_KEY

    def start(self) -> None:
        """Start it and wait until it answers."""
        binary = find_program("VERSIONED_ZARR_LAKEFS", f"lakefs-{VERSION}", "lakefs")
        if not binary.is_file():
            missing(f"no lakeFS at {binary}")
        environment = {
            "HOME": str(self.folder),
            "LAKEFS_DATABASE_TYPE": "local",
            "LAKEFS_DATABASE_LOCAL_PATH": str(self.folder / "database"),
            "LAKEFS_BLOCKSTORE_TYPE": "local",
            "LAKEFS_BLOCKSTORE_LOCAL_PATH": str(self.folder / "objects"),
            "LAKEFS_AUTH_ENCRYPT_SECRET_KEY": "not a secret",
            "LAKEFS_INSTALLATION_USER_NAME": "tester",
            "LAKEFS_INSTALLATION_ACCESS_KEY_ID": self.access_key_id,
            "LAKEFS_INSTALLATION_SECRET_ACCESS_KEY": self.secret_access_key,
            "LAKEFS_LISTEN_ADDRESS": self.endpoint.removeprefix("http://"),
            "LAKEFS_STATS_ENABLED": "false",
            **self.settings,
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary, "run"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START_S
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                text = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"lakeFS did not start: {text[-4000:]}")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Stop it and wait for its end."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """End it at once, as a crash of the machine would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def options(self) -> dict[str, str]:
        """What `vz.open` takes to reach it."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }

    def client(self, repository: str) -> LakefsClient:
        """A client of one of its repositories, to do what others would do there."""
        # Not where zarr 2 is tested, which goes without the SDK.
        from versioned_zarr.backends.lakefs.api.client import LakefsClient
        from versioned_zarr.backends.lakefs.api.credentials import Connection

        reached = Connection(self.endpoint, self.access_key_id, self.secret_access_key, "the test")
        return LakefsClient(reached, repository)

    def create(self, prefix: str = "") -> Repository:
        """A new repository of ours, in a new one of lakeFS."""
        name = f"t-{uuid.uuid4().hex}"
        namespace = f"{self.namespace}/{name}"
        url = f"lakefs://{name}/{prefix}".rstrip("/")
        return vz.create(url, storage_namespace=namespace, **self.options)

    def reopen(self, repository: Repository) -> Repository:
        """The same repository, opened again."""
        return vz.open(repository.url, verify="always", **self.options)


@pytest.fixture
def lakefs_by_environment(
    lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LakefsServer:
    """The server, with its address and credentials where every process of the test finds them."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", lakefs.endpoint)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", lakefs.access_key_id)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", lakefs.secret_access_key)
    return lakefs


def make_server(folder: Path, **settings: str) -> LakefsServer:
    """A server that is not started yet."""
    return LakefsServer(folder, f"http://127.0.0.1:{free_port()}", settings)


def on_s3(folder: Path, s3: S3Server, presigned_endpoint: str) -> LakefsServer:
    """A server, not started yet, that stores objects on S3 and lets clients reach them there."""
    prefix = "LAKEFS_BLOCKSTORE_S3"
    settings = {
        "LAKEFS_BLOCKSTORE_TYPE": "s3",
        f"{prefix}_ENDPOINT": s3.endpoint,
        f"{prefix}_PRE_SIGNED_ENDPOINT": presigned_endpoint,
        f"{prefix}_REGION": "us-east-1",
        f"{prefix}_FORCE_PATH_STYLE": "true",
        f"{prefix}_DISCOVER_BUCKET_REGION": "false",
        f"{prefix}_CREDENTIALS_ACCESS_KEY_ID": s3.access_key_id,
        f"{prefix}_CREDENTIALS_SECRET_ACCESS_KEY": s3.secret_access_key,
    }
    server = make_server(folder, **settings)
    server.namespace = f"s3://{s3.bucket}"
    return server


@pytest.fixture(scope="session")
def lakefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakefsServer]:
    """A real lakeFS server for the whole run."""
    server = make_server(tmp_path_factory.mktemp("lakefs"))
    server.start()
    try:
        yield server
    finally:
        server.stop()
