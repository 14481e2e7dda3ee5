"""The options of an object store: no value is shown, none is lost, and no request is endless."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

import versioned_zarr as vz

pytest.importorskip("obstore")

from versioned_zarr.backends.objectstore import obstore_options
from versioned_zarr.backends.objectstore.obstore_options import complete, store_at

URL = "s3://bucket/prefix"
SECRET = 'se"same'
REFUSED: list[dict[str, Any]] = [
    {name: SECRET}
    for name in (
        "allow_http",
        "client_options",
        "conditional_put",
        "credential_provider",
        "imdsv1_fallback",
        "nonsense",
        "skip_signature",
        "timeout",
        "url",
    )
]
REFUSED += [
    {"client_options": {"timeout": SECRET}},
    {"client_options": {"nonsense": SECRET}},
    {"retry_config": {"max_retries": SECRET}},
    {"default_headers": {"authorization": f"{SECRET}\n"}},
]


@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_a_refusal_names_the_options_and_shows_no_value(options: dict[str, Any]) -> None:
    with pytest.raises(
        vz.InvalidInputError, match=f"storage options {next(iter(options))}"
    ) as found:
        vz.open(URL, storage_options=options)
    assert "same" not in str(found.value)
    assert found.value.__cause__ is None


@pytest.mark.parametrize("name", ["allow_http", "aws_allow_http", "AWS_ALLOW_HTTP"])
def test_options_of_the_client_may_stand_beside_the_others(name: str) -> None:
    store = store_at(URL, {name: "true", "region": "x"})
    assert store.client_options["allow_http"] == "true"
    assert store.config == {"bucket": "bucket", "region": "x"}


def test_the_environment_adds_options_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_TIMEOUT", "7s")
    monkeypatch.setenv("GOOGLE_PROXY_URL", "http://elsewhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "who")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    found = store_at(URL, {"connect_timeout": "1s"}).client_options
    assert found == {"allow_http": "true", "timeout": "7s", "connect_timeout": "1s"}
    found = store_at(URL, {"client_options": {"timeout": "8s"}}).client_options
    assert found == {"allow_http": "true", "timeout": "8s"}
    assert "sesame" not in str(complete(URL, {}))


@pytest.mark.parametrize("url", ["s3://b/p", "gs://b/p", "az://c/p", "http://h/p", "https://h/p"])
def test_every_request_ends_unless_the_caller_decides(url: str) -> None:
    account = {"account_name": "who", "skip_signature": True} if url.startswith("az") else {}
    store = store_at(url, account)
    assert store.client_options["timeout"] == "60s"
    assert store.retry_config["retry_timeout"] == timedelta(seconds=60)
    own = {"retry_timeout": timedelta(seconds=3), "max_retries": 1}
    store = store_at(url, {**account, "timeout": "2s", "retry_config": own})
    assert store.client_options["timeout"] == "2s"
    assert {name: store.retry_config[name] for name in own} == own


@contextmanager
def silence() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def accept() -> None:
        try:
            while True:
                accepted.append(listener.accept()[0])
        except OSError:
            return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    for each in accepted:
        each.close()


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obstore_options, "TIMEOUT_S", 1)
    monkeypatch.setattr(obstore_options, "RETRY_S", 1)
    with silence() as endpoint:
        options = {"endpoint": endpoint, "allow_http": True, "region": "x"}
        keys = {"access_key_id": "who", "secret_access_key": "sesame"}
        began = time.monotonic()
        with pytest.raises(vz.StorageError, match="failed at") as found:
            vz.open(URL, storage_options={**options, **keys})
        assert time.monotonic() - began < 60
    assert "sesame" not in str(found.value)
