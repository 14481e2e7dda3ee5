"""History commands: log, show, status, diff, merge and the like."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    into_option,
    print_commit_line,
    print_json,
    resolve_option,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_path, complete_ref
from versioned_zarr.history.log import Names, standing_at
from versioned_zarr.interfaces.display.graph import one_line, text_lines
from versioned_zarr.terminal_text import counted, escaped_line


@click.command()
@click.argument("ref", default="main", shell_complete=complete_ref)
@click.option("-n", "--number", type=click.IntRange(min=1), help="Show at most this many commits.")
@click.option(
    "--path", help="Show only commits that changed this path.", shell_complete=complete_path
)
@click.option("--graph", is_flag=True, help="Draw the history as a graph.")
@click.option("--oneline", is_flag=True, help="Show each commit on one line.")
@as_json
@with_repository
def log(
    context: Context,
    ref: str,
    number: int | None,
    path: str | None,
    graph: bool,
    oneline: bool,
    as_json: bool,
) -> None:
    """Show the commits that REF reaches, newest first."""
    commits = islice(context.repository.log(ref, path=path), number)
    if as_json:
        print_json([commit.to_dict() for commit in commits])
        return
    names = standing_at(context.repository.branches, context.repository.tags)
    if graph:
        for drawing, commit in text_lines(commits, is_linear=path is not None):
            text = "" if commit is None else f" {one_line(commit, names)}"
            console().print(f"{drawing}{text}", markup=False)
        return
    for commit in commits:
        text = one_line(commit, names) if oneline else f"{_decorated(commit, names)}\n"
        console().print(text, markup=False)


def _decorated(commit: vz.Commit, names: Names) -> str:
    here = [escaped_line(name) for name in names.get(commit.cid, ())]
    text = str(commit)
    return text.replace("\n", f" ({', '.join(here)})\n", 1) if here else text


@click.command()
@click.argument("ref", default="main", shell_complete=complete_ref)
@as_json
@with_repository
def show(context: Context, ref: str, as_json: bool) -> None:
    """Show a commit and its changes."""
    repository = context.repository
    commit = repository.checkout(ref).commit
    if commit is None:
        raise vz.InvalidRefError(f"{ref!r} is a tree; 'vz ls {ref}' lists it", ref=ref)
    diff = repository.diff(commit.cid)
    if as_json:
        print_json({**commit.to_dict(), "diff": diff.to_dict()})
        return
    console().print(f"{commit}\n\n{diff}", markup=False)


@click.command()
@as_json
@with_repository
def status(context: Context, as_json: bool) -> None:
    """Show branches, and sessions with uncommitted changes."""
    repository = context.repository
    sessions = []
    for info in repository.sessions.values():
        described: dict[str, Any] = info.to_dict()
        if info.problem is None and not info.is_alive:
            found = repository.resume(info.id, mend=False)
            described["changes"] = found.status().to_dict()
        sessions.append(described)
    heads = {name: commit.cid for name, commit in repository.branches.items()}
    if as_json:
        print_json({"url": repository.url, "branches": heads, "sessions": sessions})
        return
    for name, cid in heads.items():
        console().print(escaped_line(f"branch {name} at {cid}"), markup=False)
    if not sessions:
        console().print("nothing uncommitted")
    for session in sessions:
        state = "open" if session["is_alive"] else "left behind"
        keys = counted(session["keys"], "key")
        text = f"session {session['id']} on {session['branch']}: {keys}, {state}"
        console().print(escaped_line(text), markup=False)


@click.command()
@click.argument("base", shell_complete=complete_ref)
@click.argument("other", required=False, shell_complete=complete_ref)
@click.option("--stat", is_flag=True, help="Show only counts for each node.")
@click.option("--exit-code", is_flag=True, help="Exit with code 1 if anything differs.")
@as_json
@with_repository
def diff(
    context: Context, base: str, other: str | None, stat: bool, exit_code: bool, as_json: bool
) -> None:
    """Show the difference between two refs.

    With one ref, compare that commit with its first parent. (git would compare it with the present
    state.) BASE can hold both refs: main..dev compares the two, and main...dev shows what changed
    on dev since it diverged from main.
    """
    found = context.repository.diff(base, other)
    if as_json:
        print_json(found.to_dict())
    elif stat:
        for path, node in found.nodes.items():
            fields = counted(len(node.fields), "field") if node.fields else ""
            parts = [part for part in (node.how, fields, node.summary()) if part]
            line = escaped_line(f" {path or '/'} | {', '.join(parts)}")
            console().print(line, markup=False)
        nodes, keys = counted(len(found.nodes), "node"), counted(len(found.keys), "key")
        verb = "differs" if len(found.keys) == 1 else "differ"
        console().print(f" {nodes}, {keys} {verb}", markup=False)
    else:
        console().print(str(found), markup=False)
    if exit_code and found:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("source", shell_complete=complete_ref)
@into_option
@click.option("-m", "--message", help="Commit message.")
@resolve_option
@as_json
@with_repository
def merge(
    context: Context,
    source: str,
    into: str,
    message: str | None,
    resolve: Any,
    as_json: bool,
) -> None:
    """Merge SOURCE into a branch."""
    print_commit_line(
        context.repository.merge(source, into, message=message, resolve=resolve), as_json=as_json
    )


@click.command()
@click.argument("commit", shell_complete=complete_ref)
@into_option
@resolve_option
@as_json
@with_repository
def revert(context: Context, commit: str, into: str, resolve: Any, as_json: bool) -> None:
    """Undo COMMIT with a new commit."""
    print_commit_line(context.repository.revert(commit, into, resolve=resolve), as_json=as_json)


@click.command("cherry-pick")
@click.argument("commit", shell_complete=complete_ref)
@into_option
@resolve_option
@as_json
@with_repository
def cherry_pick(context: Context, commit: str, into: str, resolve: Any, as_json: bool) -> None:
    """Apply the changes of COMMIT to another branch."""
    print_commit_line(
        context.repository.cherry_pick(commit, into, resolve=resolve), as_json=as_json
    )


@click.command()
@click.argument("since", shell_complete=complete_ref)
@into_option
@click.option(
    "-m", "--message", help="Commit message; by default the messages of all commits combined."
)
@as_json
@with_repository
def squash(context: Context, since: str, into: str, message: str | None, as_json: bool) -> None:
    """Combine the commits of a branch after SINCE into one."""
    print_commit_line(context.repository.squash(since, into, message=message), as_json=as_json)


COMMANDS = [log, show, status, diff, merge, revert, cherry_pick, squash]
