"""Who asks a node or a gateway: said to the server alone, in whatever way it was passed in."""

from __future__ import annotations

import base64
import logging
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.proxy import Proxy, guarded
from versioned_zarr.cli.app import run

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
USER, PASSWORD = "ada", "hunter/sesame:@"
WRITTEN = "ada:hunter%2Fsesame%3A%40"
SECRETS = ("hunter", "sesame", "aGRhOm", "YWRhOmh1bnRlci")

UNHEARD = f"ipfs+http://{WRITTEN}@127.0.0.1:1/x"
"""Well formed: it is tried again until it is given up."""
UNHEARD_SLOWLY = pytest.param(UNHEARD, marks=pytest.mark.slow)
URLS = [
    "ipfs+http://ada:hunter/sesame@127.0.0.1:1/x",
    "ipfs+http://ada:1/hunter/sesame@127.0.0.1:1/x",
    "ipfs+http://hunter/sesame@127.0.0.1:1/x",
    "ipfs+http://ada:hunter?sesame@127.0.0.1:1/x",
    "ipfs+http://ada:hunter#sesame@127.0.0.1:1/x",
    "ipfs+http://ada:hunter@sesame@[::1/x",
    "ipfs+http://ada:huntersesame@127.0.0.1:x/x",
    "ipfs+http://ada:huntersesame@127.0.0.1:1/x?y",
    "ipfs+http://ada:huntersesame@127.0.0.1:1",
    "ipfs+http://ada:huntersesame@/x",
    "ipfs+http://ada:huntersesame/x",
    "ipfs+http:ada:huntersesame@127.0.0.1:1/x",
    "ipfs+/dns4/ada:huntersesame@127.0.0.1/tcp/1/x",
    "ipfs+/dns4/ada:hunter/sesame@127.0.0.1/tcp/1/x",
    "ipfs+ftp://ada:huntersesame@127.0.0.1:1/x",
    "lakefs://ada:huntersesame@x/y",
    "s3://ada:huntersesame@x/y",
    "http://ada:huntersesame@x/y",
    "https://ada:hunter/sesame@x/y",
    "ipns://ada:huntersesame@x/y",
    "ada:huntersesame@127.0.0.1/x",
]
GATEWAYS = [
    "ftp://ada:huntersesame@x",
    "ada:huntersesame@x",
    "huntersesame@x",
    "http://ada:hunter/sesame@127.0.0.1:1",
    "http://ada:huntersesame@[::1",
    "http://ada:huntersesame@127.0.0.1:x",
    "http://ada:huntersesame@127.0.0.1:1",
    "http://ada:huntersesame@h\u00f4st_x",
    "/dns4/ada:huntersesame@x/tcp/1",
    "/ada:huntersesame@x/tcp/1",
]
PASTED = [
    f"https://ada:huntersesame@127.0.0.1:1/ipfs/{CID}",
    f"https://ada:hunter/sesame@127.0.0.1:1/ipfs/{CID}",
    f"https://ada:huntersesame@127.0.0.1:1/ipfs/{CID}/../x",
    f"https://ada:huntersesame@[::1/ipfs/{CID}",
    "https://ada:huntersesame@127.0.0.1:1/ipfs/wrong",
    "https://ada:huntersesame@wrong.ipfs.x/",
    "https://ada:huntersesame@wrong.ipns.x/",
    "https://ada:huntersesame@x/y",
    f"ipfs://ada:huntersesame@{CID}",
    f"ipns://ada:huntersesame@{CID}",
    "ipfs:ada:huntersesame@x",
    "/ipfs/ada:huntersesame@x",
    "/dns4/ada:huntersesame@x/tcp/1",
    f"huntersesame@{CID}",
    "ada:huntersesame@x",
]


@pytest.fixture
def folder(tmp_path: Path) -> vz.Repository:
    made = vz.create(tmp_path / "folder.vz")
    with made.session(message="x") as session:
        session.write("a", b"1")
    return made


@pytest.fixture
def bare_url(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


@pytest.fixture
def gate(node: Daemon) -> Iterator[Proxy]:
    with guarded(node.rpc, USER, PASSWORD) as between:
        yield between


def told(error: BaseException | None) -> str:
    """All that an error and those before it say and carry."""
    text = ""
    while error is not None:
        text += f"{error!r} {error} {vars(error)} {error.args} "
        error = error.__cause__ or error.__context__
    return text


def check(caplog: pytest.LogCaptureFixture, call: Callable[[], object]) -> None:
    """A call fails as ours do, and nobody hears of the secret."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(vz.VersionedZarrError) as caught:
        call()
    # What fsspec notes for its own developers is its own.
    records = [record for record in caplog.records if not record.name.startswith("fsspec")]
    heard = told(caught.value) + "".join(record.getMessage() for record in records)
    assert not [secret for secret in SECRETS if secret in heard], heard
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


@pytest.mark.parametrize("url", [UNHEARD_SLOWLY, *URLS])
def test_no_error_of_a_repositorys_url_tells_a_password(
    url: str, folder: vz.Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check(caplog, lambda: vz.open(url, **({"timeout_s": 1} if "ipfs+" in url else {})))
    check(caplog, lambda: vz.open(url, token="huntersesame", endpoint="http://127.0.0.1:1"))
    check(caplog, lambda: vz.create(url))
    check(caplog, lambda: vz.open_or_create(url))
    check(caplog, lambda: vz.clone(url, tmp_path / "copy.vz"))
    check(caplog, lambda: vz.clone(folder.url, url))
    check(caplog, lambda: folder.push(url))
    check(caplog, lambda: folder.fetch(url))
    check(caplog, lambda: folder.pull(url))
    if not url.startswith(("ada:", "ipfs+http:ada")):  # to a folder, any text is a path or a URL
        check(caplog, lambda: folder.remotes.add("x", url))
    for file in tmp_path.rglob("*.json"):
        assert b"sesame" not in file.read_bytes()


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_error_of_a_gateway_tells_a_password(
    gateway: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check(caplog, lambda: vz.open_snapshot(CID, gateways=[gateway], timeout_s=1))
    check(caplog, lambda: vz.open_snapshot(CID, gateways=gateway))
    monkeypatch.setenv("VERSIONED_ZARR_GATEWAYS", gateway)
    check(caplog, lambda: vz.open_snapshot(CID, timeout_s=1))
    name = "ipns://k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
    check(caplog, lambda: vz.open_snapshot(name, timeout_s=1))


@pytest.mark.parametrize("url", PASTED)
def test_no_error_of_what_people_paste_tells_a_password(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(caplog, lambda: vz.open_snapshot(url, timeout_s=1))


@pytest.mark.parametrize(
    "url", [UNHEARD_SLOWLY, *(url for url in [*URLS, *PASTED] if "://" in url)]
)
def test_no_command_tells_a_password(
    url: str,
    folder: vz.Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = str(tmp_path / "folder.vz")
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    for words in (
        ["-C", url, "log"],
        ["init", url],
        ["clone", url, str(tmp_path / "copy.vz")],
        ["-C", here, "push", url],
        ["-C", here, "pull", url],
        ["-C", here, "fetch", url],
        ["-C", here, "ls", "--gateway", "http://127.0.0.1:1", url],
        ["-C", here, "ls", url],
        ["-C", here, "import", url],
        ["serve", url],
        ["bundle", "import", url],
        ["cid", url],
    ):
        with pytest.raises(SystemExit):
            run(words)
        said = "".join(capfd.readouterr())
        assert said
        assert "hunter" not in said
        assert "sesame" not in said


@pytest.mark.parametrize(
    "bad", ["huntersesame\n", "hunter\r\nsesame", "huntersesam\u00e9", " hunter"]
)
def test_a_header_that_cannot_be_sent_is_refused_by_where_it_came_from(
    bad: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = "ipfs+http://127.0.0.1:1/x"
    for call, source in (
        (lambda: vz.open(url, headers={"X-Key": bad}), "'X-Key' in headers="),
        (lambda: vz.create(url, headers={"Authorization": bad}), "headers="),
        (lambda: vz.open(url, token=f"x{bad}"), "token="),
    ):
        if bad == " hunter" and source == "token=":
            continue  # a token of two words
        with pytest.raises(vz.InvalidInputError, match=source):
            call()
        check(caplog, call)
    if bad.strip() != bad:
        return  # what surrounds the value of a variable is taken off
    for value in (bad, f"Bearer {bad}"):
        monkeypatch.setenv("VERSIONED_ZARR_IPFS_AUTH", value)
        with pytest.raises(vz.InvalidInputError, match="VERSIONED_ZARR_IPFS_AUTH"):
            vz.open(url)
        check(caplog, lambda: vz.open(url))


def test_headers_and_tokens_of_other_types_are_refused() -> None:
    url = "ipfs+http://127.0.0.1:1/x"
    for options in ({"token": 5}, {"headers": 5}, {"headers": {"a b": "c"}}, {"headers": {"a": 5}}):
        with pytest.raises(vz.InvalidInputError, match=next(iter(options))):
            vz.open(url, **options)


def test_an_import_tells_nobody_the_password_in_its_source(
    folder: vz.Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        start = f"http://ada:huntersesame@127.0.0.1:{server.server_port}"
        try:
            commit = vz.import_zarr(folder, f"{start}/plain", path="there")
            assert commit.message.endswith(f"127.0.0.1:{server.server_port}/plain")
            for wrong in (f"{start}/nothing", f"{start}/folder.vz", "what://ada:huntersesame@x"):
                check(caplog, lambda wrong=wrong: vz.import_zarr(folder, wrong, path="else"))
        finally:
            server.shutdown()
    stored = [file for file in (tmp_path / "folder.vz").rglob("*") if file.is_file()]
    assert not [file for file in stored if b"sesame" in file.read_bytes()]


@pytest.mark.compat
def test_a_gateways_password_goes_into_a_header(
    node: Daemon, bare_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    repository = vz.create(bare_url)
    with repository.session(message="x") as session:
        session.write("a", b"1")
    name = repository.publish(key="credentials")
    with guarded(node.gateway, USER, PASSWORD) as between:
        address = between.url.replace("://", f"://{WRITTEN}@")
        for url in (repository.checkout().cid, name):
            found = vz.open_snapshot(url, gateways=[address], cache_bytes=0)
            assert found.read("a") == b"1"
            assert pickle.loads(pickle.dumps(found)).read("a") == b"1"
            shown = f"{found!r} {found.repository!r} {found.repository._stores.blocks!r}"
            assert "sesame" not in shown
        pasted = vz.open_snapshot(f"{address}/ipfs/{repository.checkout().cid}", cache_bytes=0)
        assert pasted.read("a") == b"1"
    assert any(record.name == "httpx" for record in caplog.records)
    assert not [record for record in caplog.records if "sesame" in record.getMessage()]


@pytest.mark.compat
def test_a_clone_is_made_with_the_credentials_in_its_url(
    bare_url: str,
    node: Daemon,
    gate: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with vz.create(bare_url).session(message="x") as session:
        session.write("a", b"1")
        session.write("b/c", b"2")
    closed = bare_url.replace(node.rpc, gate.url)
    secret = closed.replace("://", f"://{WRITTEN}@")
    copy = vz.clone(secret, tmp_path / "copy.vz")
    assert copy.checkout().read("a") == b"1"
    assert dict(copy.remotes) == {"origin": closed}
    with vz.open(bare_url).session(message="y") as session:
        session.write("a", b"3")
    with pytest.raises(vz.StorageError, match=r"401.*VERSIONED_ZARR_IPFS_AUTH.*remote"):
        copy.fetch("origin")
    assert [str(move.name) for move in copy.fetch(secret).moves] == ["origin/main"]
    part = vz.clone(secret, tmp_path / "part.vz", paths=["b"], depth=1)
    assert part.checkout().read("b/c") == b"2"
    with pytest.raises(vz.StorageError, match="VERSIONED_ZARR_IPFS_AUTH"):
        part.checkout().read("a")
    run(["clone", secret, str(tmp_path / "by-command.vz")])
    assert closed in (said := capsys.readouterr().out)
    assert "sesame" not in said
    there = vz.clone(copy.url, f"{secret}-copied")
    assert there.checkout() == copy.checkout()
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    monkeypatch.setenv("VERSIONED_ZARR_IPFS_AUTH", f"Basic {pair}")
    copy.fetch("origin")
    assert part.checkout().read("a") == b"3"
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"sesame" not in file.read_bytes()


@pytest.mark.compat
def test_a_repository_pickles_with_the_credentials_in_its_url(
    bare_url: str, node: Daemon, gate: Proxy, tmp_path: Path
) -> None:
    with vz.create(bare_url).session(message="x") as session:
        session.write("a", b"1")
    closed = bare_url.replace(node.rpc, gate.url)
    opened = vz.open(closed.replace("://", f"://{WRITTEN}@"))
    assert opened.url == closed
    assert "sesame" not in f"{opened!r} {opened.checkout()!r} {opened._stores.blocks.client!r}"
    with pytest.raises(vz.StorageError, match="401"):
        vz.open(closed)
    (tmp_path / "pickled").write_bytes(pickle.dumps(opened.checkout()))
    code = "import pickle, sys; print(bytes(pickle.load(open(sys.argv[1], 'rb')).read('a')))"
    words = [sys.executable, "-c", code, str(tmp_path / "pickled")]
    assert subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout == "b'1'\n"


@pytest.mark.compat
def test_what_is_passed_in_comes_before_the_user_in_the_url(
    bare_url: str, node: Daemon, gate: Proxy
) -> None:
    vz.create(bare_url)
    secret = bare_url.replace(node.rpc, gate.url).replace("://", f"://{WRITTEN}@")
    assert vz.open(secret, headers={"X-Other": "1"}).branches
    for options in ({"token": "wrong"}, {"headers": {"authorization": "Basic wrong"}}):
        with pytest.raises(vz.StorageError, match="401"):
            vz.open(secret, **options)
