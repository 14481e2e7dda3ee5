"""Builds the real servers that tests talk to, and what asks ours, from their Go modules.

Knows which servers there are, in which versions, and where a built one is kept:
`$VERSIONED_ZARR_SERVERS` or `~/.cache/versioned-zarr/servers`, a folder per name and version.
Knows nothing of how a server is started: that is tests/servers. Runs on a bare Python, since
the Makefile calls it before any environment exists.

    python tools/build_server.py kubo           build it unless it is there; print its path
    python tools/build_server.py --path kubo    only print where it is or would be
    python tools/build_server.py --source kubo=FOLDER kubo    build it from a checkout of its source
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Older lines of Go cannot read the `toolchain` and `tool` lines of these modules.
OLDEST_GO = (1, 25)
# What a module proxy says of a module that it does not give out.
REFUSED = re.compile(r"\b(403 Forbidden|404 Not Found|410 Gone)\b")


@dataclass(frozen=True)
class Server:
    """One server, or a test suite for servers: the Go module that holds it and what is built of it.

    Attributes:
        module: path of the Go module.
        version: its exact version, as the module proxy spells it.
        command: import path of the package to build: a command, or tests, which become one.
        binary: what the built program is called.
        tags: Go build tags.
        replaced: modules that the server replaces by others, each as `MODULE => OTHER VERSION`:
            such lines of its own go.mod do not count where it is somebody's requirement.
        is_test: whether the package is one of tests.
        data: a folder of the module that the program reads, and that is put beside it.
        is_optional: whether a module proxy may refuse it: then what it said is put beside where the
            program would be, as `refused`, and the tests that need the program skip with that.
    """

    module: str
    version: str
    command: str
    binary: str
    tags: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    is_test: bool = False
    data: str = ""
    is_optional: bool = False


SERVERS: Mapping[str, Server] = {
    "kubo": Server(
        module="github.com/ipfs/kubo",
        version="v0.42.0",
        command="github.com/ipfs/kubo/cmd/ipfs",
        binary="ipfs",
    ),
    "lakefs": Server(
        module="github.com/treeverse/lakefs",
        version="v1.84.0",
        command="github.com/treeverse/lakefs/cmd/lakefs",
        binary="lakefs",
        replaced=(
            (
                "github.com/csimplestring/delta-go => "
                "github.com/treeverse/delta-go v0.0.0-20260323095047-d2f80252d945"
            ),
        ),
    ),
    "versitygw": Server(
        module="github.com/versity/versitygw",
        version="v1.8.0",
        command="github.com/versity/versitygw/cmd/versitygw",
        binary="versitygw",
    ),
    "gateway-conformance": Server(
        module="github.com/ipfs/gateway-conformance",
        version="v0.13.2",
        command="github.com/ipfs/gateway-conformance/tests",
        binary="gateway-conformance",
        is_test=True,
        data="fixtures",
        is_optional=True,
    ),
}


def binary_path(name: str) -> Path:
    """Where the built server of this name is, or would be."""
    server = SERVERS[name]
    root = os.environ.get("VERSIONED_ZARR_SERVERS")
    servers = Path(root) if root else Path.home() / ".cache" / "versioned-zarr" / "servers"
    return servers / f"{name}-{server.version.removeprefix('v')}" / server.binary


def build(name: str, checkout: Path | None = None) -> Path | None:
    """Build the server of this name unless it is there; return its path, None if it was refused.

    Two builds at once do no harm: each builds under a name of its own and renames at the end.

    Args:
        name: which server.
        checkout: a folder with the source of its module, in place of the published one.

    Raises:
        SystemExit: there is no Go, it is too old, or the build failed.
    """
    server = SERVERS[name]
    target = binary_path(name)
    if target.exists():
        return target
    go = find_go()
    if go is None:
        oldest = ".".join(map(str, OLDEST_GO))
        raise SystemExit(f"{name} is built with Go {oldest} or newer, and there is none on PATH")
    print(f"server {name}: building {server.module} {server.version}, some minutes", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        module = Path(folder)
        # `go install MODULE@VERSION` refuses modules whose go.mod has replace or exclude lines, so
        # the server is built as the one requirement of a module made here, with the server's own
        # go.sum, which pins the content of everything below it.
        source = checkout.resolve() if checkout else download(go, server, module)
        refusal = target.with_name("refused")
        if isinstance(source, str):
            refusal.write_text(f"{source}\n", "utf-8")
            print(
                f"server {name}: left out, as its download was refused: {source}", file=sys.stderr
            )
            return None
        replaced = [*server.replaced, *([f'{server.module} => "{source}"'] if checkout else [])]
        go_version = next(
            line.split()[1]
            for line in (source / "go.mod").read_text("utf-8").splitlines()
            if line.startswith("go ")
        )
        (module / "go.mod").write_text(
            f"module versioned-zarr.invalid/servers/{name}\n\n"
            f"go {go_version}\n\n"
            f"require {server.module} {server.version}\n"
            + "".join(f"\nreplace {line}\n" for line in replaced),
            "utf-8",
        )
        # Written, not copied: what the module cache holds is read-only, and Go adds lines to this.
        (module / "go.sum").write_bytes((source / "go.sum").read_bytes())
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            options = ("-trimpath", "-tags", ",".join(server.tags), "-o", str(unfinished))
            verb = ("test", "-c") if server.is_test else ("build",)
            run([go, *verb, *options, server.command], module)
            if server.data:
                copy_files(source / server.data, target.with_name(server.data))
            unfinished.replace(target)
            refusal.unlink(missing_ok=True)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def download(go: str, server: Server, folder: Path) -> Path | str:
    """Have the source of a server's module; return its folder, or what its refusal said."""
    command = [go, "mod", "download", "-json", f"{server.module}@{server.version}"]
    done = execute(command, folder)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {}
    said = " ".join(str(found.get("Error", "")).split())
    if done.returncode and server.is_optional and REFUSED.search(said):
        return said
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {said or f'exit code {done.returncode}'}")
    return Path(found["Dir"])


def copy_files(source: Path, target: Path) -> None:
    """Copy the files below a folder; their modes are not copied, as a module cache is read-only."""
    for file in source.rglob("*"):
        if file.is_file():
            copied = target / file.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            unfinished = copied.with_name(f".{copied.name}.{os.getpid()}")
            unfinished.write_bytes(file.read_bytes())
            unfinished.replace(copied)


def find_go() -> str | None:
    """The path of a Go new enough, from PATH or the place its installer uses; None without one."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return None
    version = run([go, "env", "GOVERSION"], Path.cwd()).strip().removeprefix("go")
    return go if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_GO else None


def run(command: list[str], folder: Path) -> str:
    """Run a command of Go in a folder; return what it wrote to its standard output."""
    done = execute(command, folder)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def execute(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of Go in a folder, to its end, however that is."""
    flags = f"{os.environ.get('GOFLAGS', '')} -mod=mod".strip()
    environment = dict(os.environ, GOFLAGS=flags, GOWORK="off", CGO_ENABLED="0")
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="build the real servers that tests talk to")
    parser.add_argument("names", nargs="*", choices=[*SERVERS, []], help="default: all")
    parser.add_argument("--path", action="store_true", help="only print where each one is")
    parser.add_argument(
        "--source",
        metavar="NAME=FOLDER",
        action="append",
        default=[],
        help="build this one from a checkout of its source; may be given again",
    )
    options = parser.parse_args(arguments)
    checkouts = dict(each.split("=", 1) for each in options.source if "=" in each)
    if len(checkouts) < len(options.source) or not checkouts.keys() <= SERVERS.keys():
        parser.error(f"--source is NAME=FOLDER, each NAME once; there are {', '.join(SERVERS)}")
    for name in options.names or SERVERS:
        checkout = Path(checkouts[name]) if name in checkouts else None
        path = binary_path(name) if options.path else build(name, checkout)
        if path is not None:
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
