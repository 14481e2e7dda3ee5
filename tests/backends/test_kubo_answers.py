"""Each request of a commit, a merge, a branch and a push loses, repeats or cuts its answer.

After each, a second machine with an empty cache reads every commit that was acknowledged.
"""

from __future__ import annotations

import gc
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.torture import SEED, TIMES

pytestmark = [pytest.mark.compat, pytest.mark.torture]

STRIDE = max(1, 31 // TIMES)
KINDS = ("lost before", "lost after", "repeated", "cut")


class Fickle:
    """Misbehaves at the request of one number, counted from when it was told so."""

    def __init__(self, target: str) -> None:
        self.target, self.url = target, ""
        self.kind, self.at, self.passed = "", 0, 0
        self._guard = threading.Lock()

    def due(self) -> str:
        with self._guard:
            self.passed += 1
            return self.kind if self.passed == self.at else ""

    def begin(self, kind: str, at: int) -> None:
        with self._guard:
            self.kind, self.at, self.passed = kind, at, 0


@contextmanager
def fickle(target: str) -> Iterator[Fickle]:
    state = Fickle(target)
    upstream = httpx.Client(base_url=target, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            kind = state.due()
            if kind == "lost before":
                self.close_connection = True
                return
            headers = {"Content-Type": self.headers.get("Content-Type", "text/plain")}
            found = upstream.post(self.path, content=body, headers=headers)
            if kind == "repeated":
                found = upstream.post(self.path, content=body, headers=headers)
            if kind == "lost after":
                self.close_connection = True
                return
            sent = found.content[: len(found.content) // 2] if kind == "cut" else found.content
            with suppress(OSError):
                self.send_response(found.status_code)
                self.send_header("Content-Type", found.headers.get("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(found.content) + (kind == "cut")))
                self.end_headers()
                self.wfile.write(sent)
            self.close_connection = kind == "cut"

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
            upstream.close()


def written(repository: vz.BlockRepository, branch: str) -> str:
    session = repository.session(branch)
    session.write(f"a/{uuid.uuid4()}", os.urandom(100))
    session.write(f"b/{uuid.uuid4()}", os.urandom(1_200_000))
    return str(session.commit("x").cid)


def pushed(source: vz.BlockRepository, url: str) -> str:
    moves = source.push(url, f"main:{uuid.uuid4().hex}").moves
    return str(moves[0].new)


ACTS: dict[str, Callable[[vz.BlockRepository, vz.BlockRepository], str]] = {
    "commit": lambda repository, _: written(repository, "main"),
    "merge": lambda repository, _: repository.merge("dev").cid,
    "branch": lambda repository, _: repository.branches.create(uuid.uuid4().hex, "main~1").cid,
    "push": lambda repository, source: pushed(source, repository.url),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ACTS)
def test_whatever_becomes_of_an_answer_what_is_acknowledged_is_there(
    node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    own = f"{node.url}/{uuid.uuid4()}"
    straight = vz.create(own)
    straight.branches.create("dev")
    written(straight, "main")
    source = vz.create(tmp_path / "source.vz")
    with fickle(node.rpc) as between:
        repository = vz.open(own.replace(node.rpc, between.url))
        at, said = 1 + SEED % STRIDE, set[str]()
        while True:
            written(straight, "dev")
            written(source, "main")
            between.begin(kind, at)
            with suppress(vz.VersionedZarrError):
                said.add(ACTS[name](repository, source))
            is_over = between.passed < at
            between.begin("", 0)
            if is_over:
                break
            at += STRIDE
    assert said
    gc.collect()
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    there = vz.open(own, timeout_s=57)
    for commit in said:
        mapping = there.checkout(commit).mapping
        assert all(mapping[key] is not None for key in mapping)
    for branch in there.branches:
        assert all(value is not None for value in there.checkout(branch).mapping.values())
    assert there.fsck().is_clean
