"""Maintenance commands: gc, repack, fsck, stats, sessions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

import versioned_zarr as vz
from versioned_zarr.cli.change_commands import commit_session
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    print_json,
    progress_bar,
    tell_of_problems,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_session
from versioned_zarr.terminal_text import counted, escaped_line


@click.command()
@click.option(
    "--keep-reflog",
    metavar="DAYS",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="Keep commits that the reflogs of branches mention within this many days.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be removed.")
@as_json
@with_repository
def gc(context: Context, keep_reflog: float, dry_run: bool, as_json: bool) -> None:
    """Remove data that no branch, tag, reflog or session reaches."""
    with progress_bar("scanning packs") as progress:
        span = timedelta(days=min(timedelta.max.days, keep_reflog))
        done = context.repository.gc(keep_reflog=span, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(done.to_dict())
        return
    word = "would remove" if dry_run else "removed"
    blocks, size = counted(done.removed_blocks, "block"), counted(done.removed_bytes, "byte")
    console().print(f"{word} {blocks}, {size}")
    tell_of_problems(f"all commits were kept, because {problem}" for problem in done.problems)


@click.command()
@as_json
@with_repository
def repack(context: Context, as_json: bool) -> None:
    """Combine small packs, and make values contiguous."""
    with progress_bar("repacking") as progress:
        done = context.repository.repack(progress=progress)
    if as_json:
        print_json(done.to_dict())
        return
    packs = counted(done.removed_packs, "pack")
    console().print(f"repacked {packs} into {done.written_packs}")


@click.command()
@click.option("--quick", is_flag=True, help="Check that blocks exist, without reading them.")
@as_json
@with_repository
def fsck(context: Context, quick: bool, as_json: bool) -> None:
    """Verify the repository; list the keys affected by damage.

    The commits that are affected are listed too. Exits with code 1 if there is damage.
    """
    with progress_bar("checking") as progress:
        report = context.repository.fsck(read_all=not quick, progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        console().print(str(report), markup=False)
    if not report.is_clean:
        raise click.exceptions.Exit(1)


@click.command()
@as_json
@with_repository
def stats(context: Context, as_json: bool) -> None:
    """Show sizes, and how much data branches and tags share."""
    found = context.repository.stats()
    if as_json:
        print_json(found.to_dict())
    else:
        console().print(str(found), markup=False)


@click.command()
@click.argument("id", required=False, shell_complete=complete_session)
@click.option(
    "--delete",
    metavar="ID",
    help="Delete this session and what it wrote.",
    shell_complete=complete_session,
)
@click.option(
    "--commit",
    "commit_id",
    metavar="ID",
    help="Commit what this session wrote.",
    shell_complete=complete_session,
)
@click.option("-m", "--message", help="Commit message for --commit.")
@as_json
@with_repository
def sessions(
    context: Context,
    id: str | None,
    delete: str | None,
    commit_id: str | None,
    message: str | None,
    as_json: bool,
) -> None:
    """List uncommitted sessions; show, commit or delete one.

    With ID, show how many chunks have a value in each array that the session changed. zarr leaves
    out chunks that contain only the fill value, so an array may be complete without them.
    """
    repository = context.repository
    if delete is not None:
        repository.sessions.delete(delete)
        return
    if commit_id is not None:
        if message is None:
            raise click.UsageError("--commit needs a message: -m TEXT")
        commit_session(repository, commit_id, message, as_json=as_json)
        return
    if id is not None:
        described = {**repository.sessions[id].to_dict(), "arrays": _arrays_of(repository, id)}
        if as_json:
            print_json(described)
            return
        _print_session(described)
        for path, chunks in described["arrays"].items():
            text = f"  {path or '/'} {chunks['written']}/{chunks['chunks']} chunks"
            console().print(escaped_line(text), markup=False)
        return
    found = [info.to_dict() for info in repository.sessions.values()]
    if as_json:
        print_json(found)
        return
    for each in found:
        _print_session(each)


def _arrays_of(repository: vz.Repository, id: str) -> dict[str, Any]:
    """The arrays that a session changed, with the number of chunks and of those with a value."""
    session = repository.resume(id, mend=False)
    changed = session.status().arrays
    return {path: it.to_dict() for path, it in session._chunks().items() if path in changed}


def _print_session(info: dict[str, Any]) -> None:
    state = "alive" if info["is_alive"] else "dead"
    text = (
        f"{info['id']}  {info['branch']}  {counted(info['keys'], 'key')}  {state}  "
        f"{info['size_bytes']} bytes  "
        f"process {info['process']} on {info['host']}  last write {info['last_write']}"
    )
    for more in (info["purpose"], info["problem"]):
        text += f"  {more}" if more else ""
    console().print(escaped_line(text), markup=False)


COMMANDS = [gc, repack, fsck, stats, sessions]
