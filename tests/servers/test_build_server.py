"""A Go module proxy that refuses a module: who may do without it is told, and who may not fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.servers.programs import missing
from tests.servers.threaded import threaded

pytestmark = pytest.mark.compat

BUILDER = Path(__file__).parents[2] / "tools" / "build_server.py"
WORDS = "this module is kept back"


@contextmanager
def proxy(status: int) -> Iterator[str]:
    """A module proxy that answers so, whatever it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(WORDS.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with threaded(Handler) as url:
        yield url


def build(folder: Path, address: str, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the builder with a proxy and nothing that was downloaded or built before."""
    return subprocess.run(
        [sys.executable, BUILDER, *options, name],
        env={
            **os.environ,
            "GOPROXY": address,
            "GOMODCACHE": str(folder / "modules"),
            "VERSIONED_ZARR_SERVERS": str(folder / "servers"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def go() -> None:
    if not shutil.which("go", path=f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin"):
        missing("no Go")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refused_suite_is_left_out_and_its_tests_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with proxy(status) as address:
        for _ in range(2):  # it is tried again
            done = build(tmp_path, address, "gateway-conformance")
            assert done.returncode == 0
            (line,) = done.stderr.splitlines()
            assert "gateway-conformance" in line
            assert WORDS in line
    (refusal,) = tmp_path.glob("servers/gateway-conformance-*/refused")
    assert WORDS in refusal.read_text()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception, match=WORDS):
        missing("no suite", refusal)
    refusal.unlink()
    with pytest.raises(pytest.fail.Exception, match="no suite"):
        missing("no suite", refusal)


@pytest.mark.parametrize(("name", "status"), [("kubo", 403), ("gateway-conformance", 500)])
def test_what_is_needed_or_only_unreachable_now_is_an_error(
    tmp_path: Path, name: str, status: int
) -> None:
    with proxy(status) as address:
        done = build(tmp_path, address, name)
    assert done.returncode != 0
    assert str(status) in done.stderr
    assert not list(tmp_path.glob("servers/*/refused"))


@pytest.mark.parametrize("source", ["kubo", "nope=/x"])
def test_a_source_is_that_of_a_server(tmp_path: Path, source: str) -> None:
    done = build(tmp_path, "off", "kubo", "--source", source)
    assert done.returncode == 2
    assert "--source is NAME=FOLDER" in done.stderr


def test_a_checkout_is_built_from_without_its_module_being_asked_for(tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    (checkout / "tests").mkdir(parents=True)
    (checkout / "fixtures" / "deep").mkdir(parents=True)
    (checkout / "fixtures" / "deep" / "one.car").write_bytes(b"1")
    (checkout / "go.mod").write_text("module github.com/ipfs/gateway-conformance\n\ngo 1.25\n")
    (checkout / "go.sum").touch()
    (checkout / "tests" / "one_test.go").write_text(
        'package tests\n\nimport "testing"\n\nfunc TestOne(t *testing.T) {}\n'
    )
    source = f"gateway-conformance={checkout}"
    with proxy(403) as address:
        build(tmp_path, address, "gateway-conformance")
        done = build(tmp_path, address, "gateway-conformance", "--source", source)
    assert done.returncode == 0, done.stderr
    program = Path(done.stdout.splitlines()[-1])
    said = subprocess.run([program, "-test.v"], capture_output=True, text=True, check=True).stdout
    assert "--- PASS: TestOne" in said
    assert program.with_name("fixtures").joinpath("deep", "one.car").read_bytes() == b"1"
    assert not program.with_name("refused").exists()
