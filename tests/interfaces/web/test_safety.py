"""What a server must withstand: odd paths, huge heads, slow clients, damage, curious strangers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest

import versioned_zarr as vz
from tests.interfaces.web.conftest import BIG
from tests.interfaces.web.served import client_of, request, serving, talk
from versioned_zarr.errors import MissingDependencyError, RefNotFoundError
from versioned_zarr.interfaces.web import app, web_api
from versioned_zarr.interfaces.web.server import ImpatientProtocol
from versioned_zarr.ipld import cid as cids


@pytest.mark.parametrize(
    "target",
    [
        b"/main/../../etc/passwd",
        b"/main/%2e%2e/%2e%2e/etc/passwd",
        b"/../etc/passwd",
        b"/%2e%2e%2fetc%2fpasswd",
        b"/main/a%2Fc%2F0%2F0",
        b"/main/a%00",
        b"/main/a%00/zarr.json",
        b"/main//zarr.json",
        b"//main/zarr.json",
        b"//evil.example/%2e%2e",
        b"/main/%ff%fe",
        b"/main/./zarr.json",
        b"/ipfs/../main/zarr.json",
        b"/ipfs/",
        b"/ipfs",
        b"/ipfs//x",
        b"/ipfs/" + b"z" * 5000,
        b"/main/" + b"a/" * 2000,
        b"/" + b"%41" * 3000,
        b"/main\\zarr.json",
        b"/heads%2F../zarr.json",
    ],
)
def test_an_odd_path_is_refused_and_nothing_of_this_machine_is_told(port, target) -> None:
    said = request(port, target)
    assert said.split()[1] in {b"400", b"404"}, said
    for word in (b"root:", b"memory://", b"Traceback", b"versioned_zarr/"):
        assert word not in said


def test_a_redirect_stays_on_this_server(port) -> None:
    for target in (b"//evil.example/", b"/%2F%2Fevil.example", b"/\\evil.example"):
        assert b"\r\nlocation: //" not in request(port, target).lower()


def test_a_huge_head_is_refused(port) -> None:
    said = request(port, b"/main/zarr.json", b"X: " + b"a" * 4_000_000)
    assert said == b"" or said.split()[1] == b"400"
    assert request(port, b"/main/zarr.json").split()[1] == b"200"


def test_what_is_no_http_is_refused(port) -> None:
    assert talk(port, b"\x16\x03\x01 hello\r\n\r\n").split()[1] == b"400"


def test_head_has_no_body(port, snapshot) -> None:
    for target in ("/main/big/v", f"/ipfs/{snapshot.cid}?format=car", "/main/", "/main/nope"):
        said = request(port, target.encode(), method=b"HEAD")
        assert said.partition(b"\r\n\r\n")[2] == b""


class Hasty(ImpatientProtocol):
    """As the real one, without the long waits."""

    head_timeout_s = 0.5
    body_timeout_s = 0.5


def connected(port: int, receive_bytes: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect(("127.0.0.1", port))
    return connection


def seconds_until_end(connection: socket.socket) -> float:
    started = time.monotonic()
    connection.settimeout(20)
    try:
        while connection.recv(1):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


@pytest.mark.parametrize("sent", [b"", b"GET /main/zarr", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_client_that_does_not_send_its_request_is_left(repository, sent) -> None:
    with serving(repository, protocol=Hasty) as port, connected(port) as connection:
        connection.sendall(sent)
        assert seconds_until_end(connection) < 5


def test_a_client_that_sends_byte_by_byte_is_left(repository) -> None:
    with serving(repository, protocol=Hasty) as port, connected(port) as connection:
        started = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - which of the sends finds out is chance
            for byte in b"GET /main/zarr.json HTTP/1.1\r\nX: " + b"a" * 1000:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - started < 5


def test_a_client_that_does_not_read_is_left_and_others_are_served(repository) -> None:
    with (
        serving(repository, protocol=Hasty) as port,
        client_of(port) as web,
        connected(port, receive_bytes=4096) as connection,
    ):
        connection.sendall(b"GET /main/big/v HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert web.get("/main/zarr.json").status_code == 200
        time.sleep(2)
        got = 0
        connection.settimeout(5)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                got += len(piece)
        assert got < 20 * len(BIG)


def test_a_client_that_reads_slowly_but_steadily_gets_all(repository) -> None:
    with serving(repository, protocol=Hasty) as port, client_of(port) as web:
        length = int(web.head("/main/big/v").headers["content-length"])
        with connected(port, receive_bytes=65536) as connection:
            connection.sendall(b"GET /main/big/v HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = 0
            while piece := connection.recv(65536):
                got += len(piece)
                time.sleep(0.03)
            assert got > length


def test_pages_that_pose_as_this_machine_are_refused(repository) -> None:
    with serving(repository, hosts=web_api.LOOPBACK) as port, client_of(port) as web:
        assert web.get("/main/zarr.json").status_code == 200
        for host in ("localhost", f"localhost:{port}", f"[::1]:{port}"):
            assert web.get("/main/zarr.json", headers={"Host": host}).status_code == 200
        assert web.get("/main/zarr.json", headers={"Host": "evil.example"}).status_code == 400


def damage(repository, data: bytes) -> None:
    """Flip a bit of a stored block."""
    storage = repository._stores.storage
    for stored in storage.list("packs"):
        whole = bytearray(storage.read(stored.path))
        at = whole.find(data)
        if at >= 0:
            whole[at] ^= 1
            storage.delete(stored.path)
            storage.put(stored.path, [bytes(whole)])


def test_damage_is_an_error_and_in_midstream_cuts_the_connection() -> None:
    repository = vz.create("memory://web-damaged")
    big = b"".join(b"%07d\n" % number for number in range(400_000))
    with repository.session(message="values") as session:
        session.write("a", b"a small value")
        session.write("big", big)
    tree = repository.checkout("main").cid
    damage(repository, b"a small value")
    damage(repository, b"0300000\n")
    with serving(repository) as port, client_of(port) as web:
        found = web.get("/main/a")
        assert found.status_code == 500
        assert "small" not in found.text
        assert "memory:" not in found.text
        leaf = repository.checkout("main")._find("a").cid
        assert web.get(f"/ipfs/{cids.to_text(leaf)}?format=raw").status_code == 500
        assert web.get("/main/big", headers={"Range": "bytes=0-99"}).content == big[:100]
        for path in ("/main/big", f"/ipfs/{tree}/big?format=car", f"/ipfs/{tree}/big?format=tar"):
            said = request(port, path.encode())
            assert said.startswith(b"HTTP/1.1 200")
            assert not said.endswith(b"0\r\n\r\n")
            assert b"0000123\n" in said
            assert len(said) < len(big)


def history(of: str):
    repository = vz.create(f"memory://web-{of}")
    for name, value in (("one", b"1" * 9), ("two", b"2" * 9)):
        repository.branches.create(name)
        with repository.session(name, message=name) as session:
            session.write("k", value)
    return repository


def test_only_chosen_refs_and_what_they_reach_are_there() -> None:
    repository = history("chosen")
    one, two = repository.checkout("one"), repository.checkout("two")
    own, other = (cids.to_text(each._find("k").cid) for each in (one, two))
    with serving(repository, refs=["one"]) as port, client_of(port) as web:
        assert [entry["name"] for entry in web.get("/?format=json").json()] == ["one"]
        assert web.get("/one/k").content == b"1" * 9
        there = [f"/ipfs/{own}", f"/ipfs/{one.cid}/k", f"/{one.cid}/k"]
        hidden = [
            f"/ipfs/{other}",
            f"/ipfs/{two.cid}/k",
            f"/{two.cid}/k",
            "/two/k",
            "/heads%2Ftwo/k",
        ]
        hidden += [f"/ipfs/{two.cid}?format=car", f"/{repository.branches['two'].cid}/k"]
        there += [f"/ipfs/{repository.branches['one'].parents[0]}/commit.json"]
        for path in there:
            assert web.get(path).status_code == 200, path
        for path in hidden:
            assert web.get(path).status_code == 404, path
        # Forward: what was reached stays. Elsewhere: it does not.
        with repository.session("one", message="more") as session:
            session.write("new", b"new")
        new = repository.checkout("one").cid
        assert web.get(f"/ipfs/{new}/new").content == b"new"
        assert web.get(f"/ipfs/{own}").content == b"1" * 9
        repository.branches.move("one", "two")
        assert web.get(f"/ipfs/{own}").status_code == 404
        assert web.get(f"/ipfs/{other}").content == b"2" * 9


def test_a_chosen_cid_stays_what_it_is() -> None:
    repository = history("fixed")
    one = repository.checkout("one")
    with serving(repository, refs=[one.cid]) as port, client_of(port) as web:
        assert web.get(f"/{one.cid}/k").content == b"1" * 9
        assert web.get("/one/k").status_code == 404
        assert web.get("/?format=json").json() == []


def test_a_ref_that_is_not_there_is_an_error_at_once(repository) -> None:
    with pytest.raises(RefNotFoundError, match="nope"):
        app(repository, refs=["nope"])


def test_a_missing_package_names_the_extra() -> None:
    error = web_api._missing(ImportError("no", name="starlette.routing"), "starlette")
    assert isinstance(error, MissingDependencyError)
    assert (error.extra, error.package) == ("serve", "starlette")
    other = ImportError("no", name="versioned_zarr.interfaces.web.nope")
    assert web_api._missing(other, "starlette") is other


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path, number) -> None:
    vz.create(tmp_path / "r.vz")
    command = [sys.executable, "-m", "versioned_zarr.cli", "serve", str(tmp_path / "r.vz")]
    with subprocess.Popen(
        [*command, "--port", "0", "--ref", "main"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        line = process.stdout.readline().decode()
        port = int(line.rstrip("/\n").rpartition(":")[2])
        with client_of(port) as web:
            assert [entry["name"] for entry in web.get("/?format=json").json()] == ["main"]
            assert web.get("/", headers={"Host": "evil.example"}).status_code == 400
            process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode in {-number, 128 + number, 0}
    assert b"Traceback" not in said
