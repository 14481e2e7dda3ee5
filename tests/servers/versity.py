"""A real S3 gateway over a folder, on a port that was free; stopped by its process id."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

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

    @property
    def storage_options(self) -> dict[str, Any]:
        """How obstore reaches it."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": "us-east-1",
            "allow_http": True,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same, as obstore finds it in the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def url(self) -> str:
        """The URL of a repository that is not there yet."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex}"


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server for the length of a block, with its data in a folder."""
    binary = _binary()
    if not binary.is_file():
        missing(f"no versitygw at {binary}")
    address = f"127.0.0.1:{free_port()}"
    server = S3Server(f"http://{address}")
    (folder / "data" / server.bucket).mkdir(parents=True)
    (folder / "users").mkdir()
    credentials = {
        "ROOT_ACCESS_KEY": server.access_key_id,
        "ROOT_SECRET_KEY": server.secret_access_key,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "--port", address, "--iam-dir", folder / "users", "posix", folder / "data"],
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


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 gateway for the whole run."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_by_environment(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with its address and credentials where every process of the test finds them."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


def add_user(server: S3Server, name: str) -> S3Server:
    """The server, as a new user sees it, who may do only what the bucket's policy allows."""
    user = replace(server, access_key_id=name, secret_access_key=f"{name}-on-loopback")
    subprocess.run(
        [
            *(_binary(), "admin", "--endpoint-url", server.endpoint),
            *("--access", server.access_key_id, "--secret", server.secret_access_key),
            *("create-user", "--access", user.access_key_id, "--secret", user.secret_access_key),
            *("--role", "user"),
        ],
        check=True,
        timeout=_START_S,
    )
    return user


def put_policy(server: S3Server, policy: Mapping[str, Any]) -> None:
    """Set the policy of the bucket; signed as docs of S3 say (Signature Version 4)."""
    path, query, body = f"/{server.bucket}", "policy=", json.dumps(policy).encode()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "host": server.endpoint.partition("://")[2],
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
    }
    lines = [f"{name}:{value}" for name, value in headers.items()]
    request = "\n".join(["PUT", path, query, *lines, "", ";".join(headers), digest])
    scope = [stamp[:8], "us-east-1", "s3", "aws4_request"]
    key = f"AWS4{server.secret_access_key}".encode()
    hashed = hashlib.sha256(request.encode()).hexdigest()
    for part in [*scope, f"AWS4-HMAC-SHA256\n{stamp}\n{'/'.join(scope)}\n{hashed}"]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={server.access_key_id}/{'/'.join(scope)}, "
        f"SignedHeaders={';'.join(headers)}, Signature={key.hex()}"
    )
    url = f"{server.endpoint}{path}?{query}"
    asked = urllib.request.Request(url, data=body, headers=headers, method="PUT")
    urllib.request.urlopen(asked, timeout=_START_S).close()


def _binary() -> Path:
    return find_program("VERSIONED_ZARR_VERSITYGW", f"versitygw-{VERSION}", "versitygw")


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=1).close()
    except urllib.error.HTTPError:
        return True  # it wants credentials
    except OSError:
        return False
    return True
