"""History commands: log, show, diff, merge and the like."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    into_option,
    print_commit,
    print_commit_line,
    print_diff,
    print_json,
    print_parts,
    resolve_option,
    save_figure,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_path, complete_ref
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.history.log import Names, standing_at
from versioned_zarr.interfaces.display.graph import text_lines
from versioned_zarr.interfaces.display.plots import figure_of
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
            print_parts(
                (drawing, ""), *([] if commit is None else [(" ", ""), *_line(commit, names)])
            )
        return
    for commit in commits:
        if oneline:
            print_parts(*_line(commit, names))
        else:
            print_commit(commit, names.get(commit.cid, ()))
            console().print()


def _line(commit: vz.Commit, names: Names) -> list[tuple[str, str]]:
    """A commit on one line, with its styles; see `one_line`."""
    here = ", ".join(names.get(commit.cid, ()))
    shown = [(commit.cid[:16], "yellow")]
    shown += [(" ", ""), (f"({here})", "green")] if here else []
    return [*shown, (f" {commit.summary}" if commit.summary else "", "")]


@click.command()
@click.argument("ref", default="main", shell_complete=complete_ref)
@as_json
@with_repository
def show(context: Context, ref: str, as_json: bool) -> None:
    """Show a commit and what it changed.

    The changes are those since its first parent.
    """
    repository = context.repository
    commit = repository.checkout(ref).commit
    if commit is None:
        raise vz.InvalidRefError(f"{ref!r} is a tree; 'vz ls {ref}' lists it", ref=ref)
    diff = repository.diff(commit.cid)
    if as_json:
        print_json({**commit.to_dict(), "diff": diff.to_dict()})
        return
    print_commit(commit)
    console().print()
    print_diff(diff)


@click.command()
@click.argument("base", shell_complete=complete_ref)
@click.argument("other", required=False, shell_complete=complete_ref)
@click.option("--stat", is_flag=True, help="Show only counts for each node.")
@click.option("--values", is_flag=True, help="Compare the values of arrays; reads their chunks.")
@click.option(
    "--plot",
    "picture",
    metavar="FILE",
    help="Draw the changed values of arrays, as .png, .svg or .pdf.",
)
@click.option("--exit-code", is_flag=True, help="Exit with code 1 if anything differs.")
@as_json
@with_repository
def diff(
    context: Context,
    base: str,
    other: str | None,
    stat: bool,
    values: bool,
    picture: str | None,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Show the difference between two refs.

    With one ref, show all changes since then: main~3 and dev~3 up to the head of that branch, and
    any other ref up to main. What one commit changed is shown by vz show. BASE can hold both refs:
    main..dev compares the two, and main...dev shows what changed on dev since it diverged from
    main. What is not committed is shown by vz status.
    """
    repository = context.repository
    if other is None and ".." not in base:
        other = _head_after(repository, base)
    found = repository.diff(base, other)
    if picture is not None:
        save_figure(figure_of([found[path] for path in found.arrays]), picture)
    if as_json:
        arrays = {path: found[path].to_dict() for path in found.arrays} if values else {}
        print_json({**found.to_dict(), **({"values": arrays} if values else {})})
        _exit_if(exit_code and bool(found))
        return
    print_parts((f"{found.old_name} → {found.new_name}", "bold"))
    if stat:
        for path, node in found.nodes.items():
            fields = counted(len(node.fields), "field") if node.fields else ""
            parts = [part for part in (node.how, fields, node.summary()) if part]
            line = escaped_line(f" {path or '/'} | {', '.join(parts)}")
            console().print(line, markup=False)
        nodes, keys = counted(len(found.nodes), "node"), counted(len(found.keys), "key")
        verb = "differs" if len(found.keys) == 1 else "differ"
        console().print(f" {nodes}, {keys} {verb}", markup=False)
    else:
        print_diff(found)
    for path in found.arrays if values else ():
        console().print(str(found[path]), markup=False)
    if found.old_name == found.new_name:
        print_parts((f"what its last commit changed: {context.words(f'show {base}')}", ""))
    _exit_if(exit_code and bool(found))


def _head_after(repository: vz.Repository, ref: str) -> str:
    """The branch up to which a diff with one ref goes: that of `main~3`, or else main."""
    name = re.split(r"[~^]|@\{", ref, maxsplit=1)[0]
    branch = name.removeprefix("heads/")
    return branch if name != ref and branch in repository.branches else MAIN


def _exit_if(differs: bool) -> None:
    if differs:
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


COMMANDS = [log, show, diff, merge, revert, cherry_pick, squash]
