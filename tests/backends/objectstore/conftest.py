"""A real S3 server, and a proxy before it that loses answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers.fickle import Fickle, fickle
from tests.servers.versity import S3Server, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def between(server: S3Server) -> Iterator[Fickle]:
    with fickle(server.endpoint, keeps_host=True) as between:
        yield between


@pytest.fixture
def environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Clients find what is passed in the environment, with the credentials."""

    def set_to(endpoint: str) -> None:
        for name, value in {**server.environment, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)

    return set_to
