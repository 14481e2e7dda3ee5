"""Builds the real servers that tests talk to, from their published Go modules.

Knows which servers there are, in which versions, and where a built one is kept:
`$VERSIONED_ZARR_SERVERS` or `~/.cache/versioned-zarr/servers`, a folder per name and version.
Knows nothing of how a server is started: that is tests/servers. Runs on a bare Python, since
the Makefile calls it before any environment exists.

    python tools/build_server.py kubo           build it unless it is there; print its path
    python tools/build_server.py --path kubo    only print where it is or would be
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Older lines of Go cannot read the `toolchain` and `tool` lines of these modules.
OLDEST_GO = (1, 25)


@dataclass(frozen=True)
class Server:
    """One server: the Go module that holds it and the command in it.

    Attributes:
        module: path of the Go module.
        version: its exact version, as the module proxy spells it.
        command: import path of the package to build.
        binary: what the built program is called.
        tags: Go build tags.
        replaced: modules that the server replaces by others, each as `MODULE => OTHER VERSION`:
            such lines of its own go.mod do not count where it is somebody's requirement.
    """

    module: str
    version: str
    command: str
    binary: str
    tags: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


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
}


def binary_path(name: str) -> Path:
    """Where the built server of this name is, or would be."""
    server = SERVERS[name]
    root = os.environ.get("VERSIONED_ZARR_SERVERS")
    servers = Path(root) if root else Path.home() / ".cache" / "versioned-zarr" / "servers"
    return servers / f"{name}-{server.version.removeprefix('v')}" / server.binary


def build(name: str) -> Path:
    """Build the server of this name unless it is there; return its path.

    Two builds at once do no harm: each builds under a name of its own and renames at the end.

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
        found = json.loads(
            run([go, "mod", "download", "-json", f"{server.module}@{server.version}"], module)
        )
        source = Path(found["Dir"])
        go_version = next(
            line.split()[1]
            for line in (source / "go.mod").read_text("utf-8").splitlines()
            if line.startswith("go ")
        )
        (module / "go.mod").write_text(
            f"module versioned-zarr.invalid/servers/{name}\n\n"
            f"go {go_version}\n\n"
            f"require {server.module} {server.version}\n"
            + "".join(f"\nreplace {line}\n" for line in server.replaced),
            "utf-8",
        )
        # Written, not copied: what the module cache holds is read-only, and Go adds lines to this.
        (module / "go.sum").write_bytes((source / "go.sum").read_bytes())
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            options = ("-trimpath", "-tags", ",".join(server.tags), "-o", str(unfinished))
            run([go, "build", *options, server.command], module)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def find_go() -> str | None:
    """The path of a Go new enough, from PATH or the place its installer uses; None without one."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return None
    version = run([go, "env", "GOVERSION"], Path.cwd()).strip().removeprefix("go")
    return go if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_GO else None


def run(command: list[str], folder: Path) -> str:
    """Run a command of Go in a folder; return what it wrote to its standard output."""
    flags = f"{os.environ.get('GOFLAGS', '')} -mod=mod".strip()
    environment = dict(os.environ, GOFLAGS=flags, GOWORK="off", CGO_ENABLED="0")
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="build the real servers that tests talk to")
    parser.add_argument("names", nargs="*", choices=[*SERVERS, []], help="default: all")
    parser.add_argument("--path", action="store_true", help="only print where each one is")
    options = parser.parse_args(arguments)
    for name in options.names or SERVERS:
        print(binary_path(name) if options.path else build(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
