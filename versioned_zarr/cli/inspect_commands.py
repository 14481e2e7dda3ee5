"""Inspect commands: status, reflog, tree and config, which change nothing."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

import versioned_zarr as vz
from versioned_zarr.blocks.protocol import CachedBlocks
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    gateway_option,
    print_diff,
    print_json,
    print_parts,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_branch, complete_path, complete_ref
from versioned_zarr.engine.hierarchy.stored_nodes import StoredNode, stored_nodes
from versioned_zarr.engine.hierarchy.zarr_nodes import join, split
from versioned_zarr.engine.marker import MARKER, read_marker
from versioned_zarr.engine.sessions.protocol import SessionInfo
from versioned_zarr.history.commit_object import default_author, format_time
from versioned_zarr.interfaces.display.outline import times
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.location import state_folder
from versioned_zarr.terminal_text import counted, escaped_line, local_time

_LOOKED_INTO_BYTES = 1 << 30
"""Sessions that are being written are looked into if they are smaller: their values are hashed."""
_DOCUMENT_BYTES = 64 << 20
_KINDS = {
    "file": "folder",
    "memory": "memory",
    "ipfs+http": "IPFS node",
    "ipfs+https": "IPFS node",
    "lakefs": "lakeFS server",
    "http": "web server, read-only",
    "https": "web server, read-only",
}


@click.command()
@as_json
@with_repository
def status(context: Context, as_json: bool) -> None:
    """Show branches, uncommitted sessions and what to type next.

    Each session is shown with the arrays and groups that it changed.
    """
    repository = context.repository
    heads = {name: commit.cid for name, commit in repository.branches.items()}
    found = [(info, _changes_of(repository, info)) for info in repository.sessions.values()]
    if as_json:
        sessions: list[dict[str, Any]] = []
        for info, changes in found:
            more = {} if changes is None else {"changes": changes.to_dict()}
            sessions.append({**info.to_dict(), **more})
        print_json({"url": repository.url, "branches": heads, "sessions": sessions})
        return
    for name, cid in heads.items():
        print_parts(("branch ", ""), (name, "green"), (" at ", ""), (cid, "yellow"))
    for info, changes in found:
        _print_session(context, info, changes)
    if not found:
        console().print("nothing uncommitted")
        words = context.words("commit FOLDER -m MESSAGE")
        console().print(f"  to commit a folder of plain Zarr: {words}", markup=False)


def _changes_of(repository: vz.Repository, info: SessionInfo) -> vz.Diff | None:
    """What a session changed; None if it cannot be read, or is large and still being written."""
    if info.problem is not None or (info.is_alive and info.size_bytes > _LOOKED_INTO_BYTES):
        return None
    try:
        return repository.resume(info.id, mend=False).status()
    except vz.VersionedZarrError:
        if info.is_alive:  # it ended, or is just writing
            return None
        raise


def _print_session(context: Context, info: SessionInfo, changes: vz.Diff | None) -> None:
    state = "open" if info.is_alive else "left behind"
    print_parts(
        ("session ", ""),
        (info.id, "yellow"),
        (" on ", ""),
        (info.branch, "green"),
        (f": {counted(info.keys, 'key')}, {state}{f', {info.purpose}' * bool(info.purpose)}", ""),
    )
    if info.problem is not None:
        print_parts((f"  {info.problem}", "red"))
    if changes is not None:
        print_diff(changes, indent="  ")
    when = ""
    if info.is_alive:
        opened = f"  opened by process {info.process} on {info.host}; to see how complete it is: "
        print_parts((opened, ""), (context.words(f"sessions {info.id}"), ""))
        when = " once its writers are done"
    if info.problem is None:
        words = context.words(f"commit {info.id} -m MESSAGE")
        print_parts((f"  to commit it{when}: ", ""), (words, ""))
    print_parts(("  to delete it: ", ""), (context.words(f"sessions --delete {info.id}"), ""))


@click.command()
@click.argument("branch", default="main", shell_complete=complete_branch)
@click.option("-n", "--number", type=click.IntRange(min=1), help="Show at most this many moves.")
@as_json
@with_repository
def reflog(context: Context, branch: str, number: int | None, as_json: bool) -> None:
    """Show the moves of a branch, newest first.

    BRANCH@{N} names the commit before the last N moves, even if the branch was deleted.
    """
    moves = list(islice(context.repository.reflog(branch), number))
    if not moves:
        url = context.repository.url
        raise vz.RefNotFoundError(f"branch {branch!r} not found in {url!r}", ref=branch)
    shown = [
        {
            "ref": f"{branch}@{{{at}}}",
            "cid": None if move.commit is None else to_text(move.commit),
            "time": format_time(move.time),
            "why": move.why,
        }
        for at, move in enumerate(moves)
    ]
    if as_json:
        print_json(shown)
        return
    width = max(len(escaped_line(str(each["ref"]))) for each in shown)
    for each, move in zip(shown, moves, strict=True):
        ref = escaped_line(str(each["ref"]))
        when = local_time(move.time)
        cid = each["cid"] or "deleted"
        print_parts((f"{ref:{width}}  ", "green"), (cid, "yellow"), (f"  {when}  {move.why}", ""))


@click.command()
@click.argument("ref", default="main", shell_complete=complete_ref)
@click.argument("path", default="", shell_complete=complete_path)
@gateway_option
@as_json
@with_repository
def tree(context: Context, ref: str, path: str, gateways: tuple[str, ...], as_json: bool) -> None:
    """Show the groups and arrays of REF, with sizes.

    For each array: its shape, type, chunks (and shards), how many of its chunks (shards) are
    stored, and the bytes that all its values take. Chunks with only the fill value are not stored.
    """
    snapshot = context.snapshot(ref, gateways).path(path)

    def read(key: str) -> bytes | None:
        size = snapshot.size(key)
        return None if size is None or size > _DOCUMENT_BYTES else bytes(snapshot.read(key))

    above = path.strip("/")
    found = stored_nodes(snapshot.sizes(), read)
    if as_json:
        print_json([{**each.to_dict(), "path": _whole(above, each.node.path)} for each in found])
        return
    if not found:
        console().print(
            escaped_line(f"no groups or arrays; 'vz ls {ref}' lists the keys"), markup=False
        )
    rows = [_row(each, _whole(above, each.node.path)) for each in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for each, row in zip(found, rows, strict=True):
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
        rest = "  ".join(cells[1:]).rstrip()
        print_parts((f"{cells[0]}  ", "" if each.node.is_array else "blue"), (rest, ""))


def _whole(above: str, path: str) -> str:
    return join(above, path) if path else above


def _row(found: StoredNode, path: str) -> tuple[str, ...]:
    node = found.node
    depth = node.path.count("/") + 1 if node.path else 0
    name = "  " * depth + (split(path)[1] if depth else path or "/")
    size = counted(found.size_bytes, "byte")
    if not node.is_array:
        return escaped_line(f"{name}/".replace("//", "/")), "", "", "", "", size
    fields = node.fields
    chunks = times(fields.get("chunks"))
    shards = f", shards {times(fields['shards'])}" if "shards" in fields else ""
    of = "" if found.grid_chunks is None else f" of {found.grid_chunks:,}"
    noun = "shard" if shards else "chunk"
    stored = f"{found.stored_chunks:,}{of} {noun}{'' if found.grid_chunks == 1 else 's'}"
    cells = (name, times(fields.get("shape")), str(fields.get("dtype", "")))
    return (*map(escaped_line, (*cells, f"chunks {chunks}{shards}", stored)), size)


@click.command()
@as_json
@with_repository
def config(context: Context, as_json: bool) -> None:
    """Show the version, the author and facts about the repository.

    They are set by the environment (VERSIONED_ZARR_AUTHOR, VERSIONED_ZARR_HOME,
    VERSIONED_ZARR_REPO) or when the repository was created. Works outside a repository, too.
    """
    facts: dict[str, Any] = {
        "version": vz.__version__,
        "author": default_author(),
        "state_folder": state_folder(),
    }
    try:
        facts |= _facts_of(context.repository)
    except vz.RepositoryNotFoundError:
        if context.location is not None:
            raise
        facts["url"] = None
    if as_json:
        print_json(facts)
        return
    if facts["url"] is None:
        facts["url"] = "no repository here; 'vz init' creates one"
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        print_parts((f"{name.replace('_', ' '):{width}}", "green"), (shown, ""))


def _facts_of(repository: vz.Repository) -> dict[str, Any]:
    facts = {"url": repository.url, "kind": _kind_of(repository.url), "hash": repository.hash}
    blocks = repository._stores.blocks
    if not isinstance(blocks, CachedBlocks):
        return facts
    cache = blocks.cache
    return {**facts, "cache_bytes": cache.size_bytes(), "cache_limit_bytes": cache.limit_bytes}


def _kind_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "file":
        marker = Path(unquote(parts.path)) / MARKER
        if read_marker(url, marker.read_bytes).get("shared"):
            return "shared folder"
    return _KINDS.get(parts.scheme, "object store")


COMMANDS = [status, reflog, tree, config]
