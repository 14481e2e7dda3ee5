"""Maintenance commands: gc, repack, fsck, stats, sessions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    print_commit_line,
    print_json,
    progress_bar,
    tell_of_problems,
    with_repository,
)
from versioned_zarr.terminal_text import escaped_line


@click.command()
@click.option(
    "--keep-reflog",
    metavar="DAYS",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="How long the branches' logs keep commits alive.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go.")
@as_json
@with_repository
def gc(context: Context, keep_reflog: float, dry_run: bool, as_json: bool) -> None:
    """Remove what no branch, tag, recent log entry or session reaches."""
    with progress_bar("looking through packs") as progress:
        span = timedelta(days=min(timedelta.max.days, keep_reflog))
        done = context.repository.gc(keep_reflog=span, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(done.to_dict())
        return
    word = "would remove" if dry_run else "removed"
    console().print(f"{word} {done.removed_blocks} blocks, {done.removed_bytes:,} bytes")
    tell_of_problems(f"all commits were kept, since {problem}" for problem in done.problems)


@click.command()
@as_json
@with_repository
def repack(context: Context, as_json: bool) -> None:
    """Join small packs into large ones."""
    with progress_bar("joining packs") as progress:
        done = context.repository.repack(progress=progress)
    if as_json:
        print_json(done.to_dict())
        return
    console().print(f"{done.removed_packs} packs became {done.written_packs}")


@click.command()
@click.option("--quick", is_flag=True, help="Do not read the blocks, only look for them.")
@as_json
@with_repository
def fsck(context: Context, quick: bool, as_json: bool) -> None:
    """Check everything, and name the keys and commits that a damage touches."""
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
    """Show how much there is, and how much of it branches and tags share."""
    found = context.repository.stats()
    if as_json:
        print_json(found.to_dict())
    else:
        console().print(str(found), markup=False)


@click.command()
@click.option("--delete", metavar="ID", help="Remove a session and what it wrote.")
@click.option("--commit", "commit_id", metavar="ID", help="Commit what a session wrote.")
@click.option("-m", "--message", help="Why, with --commit.")
@as_json
@with_repository
def sessions(
    context: Context,
    delete: str | None,
    commit_id: str | None,
    message: str | None,
    as_json: bool,
) -> None:
    """List the sessions that have written and not committed, or finish one."""
    repository = context.repository
    if delete is not None:
        repository.sessions.delete(delete)
        return
    if commit_id is not None:
        if message is None:
            raise click.UsageError("--commit needs a message: -m TEXT")
        session = repository.resume(commit_id)
        print_commit_line(session.commit(message), as_json=as_json)
        session.discard()
        return
    found: list[dict[str, Any]] = [info.to_dict() for info in repository.sessions.values()]
    if as_json:
        print_json(found)
        return
    for info in found:
        state = "alive" if info["is_alive"] else "dead"
        text = (
            f"{info['id']}  {info['branch']}  {info['keys']} keys  {state}  "
            f"process {info['process']} on {info['host']}  last write {info['last_write']}"
        )
        for more in (info["purpose"], info["problem"]):
            text += f"  {more}" if more else ""
        console().print(escaped_line(text), markup=False)


COMMANDS = [gc, repack, fsck, stats, sessions]
