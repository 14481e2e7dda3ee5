"""Change commands: commit, rm, mv, hierarchy and others that change a branch from the shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    print_commit_line,
    print_diff,
    progress_bar,
    with_repository,
)
from versioned_zarr.cli.shell.completion import (
    complete_branch,
    complete_path,
    complete_ref,
    complete_session_or_folder,
)
from versioned_zarr.history.refs import RefEntry
from versioned_zarr.interfaces.files.zarr_import import import_zarr
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository.node_moves import remove_paths
from versioned_zarr.terminal_text import escaped_line

_Command: TypeAlias = Callable[..., Any]

_branch_option = click.option(
    "-b",
    "--branch",
    default="main",
    show_default=True,
    help="Branch to commit to.",
    shell_complete=complete_branch,
)


def _makes_commit(message: str) -> Callable[[_Command], _Command]:
    """The options of a command that makes one commit.

    Args:
        message: the default message, as the help shows it.
    """
    with_message = click.option("-m", "--message", help=f"Commit message.  [default: {message}]")

    def decorate(command: _Command) -> _Command:
        return with_message(_branch_option(as_json(with_repository(command))))

    return decorate


@click.command()
@click.argument(
    "target", required=False, metavar="ID|FOLDER", shell_complete=complete_session_or_folder
)
@click.option("-m", "--message", help="Commit message.")
@click.option(
    "-b",
    "--branch",
    help="Branch to commit a folder to; main by default.",
    shell_complete=complete_branch,
)
@click.option(
    "-p",
    "--path",
    default="",
    help="Group that a folder replaces; the root by default.",
    shell_complete=complete_path,
)
@as_json
@with_repository
def commit(
    context: Context,
    target: str | None,
    message: str | None,
    branch: str | None,
    path: str,
    as_json: bool,
) -> None:
    """Commit a session, or a folder of plain Zarr.

    ID is a session that vz sessions lists, even if its process died. FOLDER is plain Zarr outside
    the repository: one commit makes the branch equal to it, like vz import --overwrite.
    """
    if message is None:
        raise click.UsageError("a commit needs a message: -m MESSAGE")
    repository = context.repository
    if target is None or (target not in repository.sessions and not os.path.exists(target)):
        given = "" if target is None else f"no session or folder {target!r}; "
        raise click.UsageError(f"{given}name a session ({_listed(repository)}) or a folder of Zarr")
    if target not in repository.sessions:
        with progress_bar("importing", first="listing") as progress:
            made = import_zarr(
                repository,
                target,
                into=branch or "main",
                path=path,
                message=message,
                overwrite=True,
                progress=progress,
            )
        print_commit_line(made, as_json=as_json)
        return
    if branch is not None or path:
        raise click.UsageError(
            "a session has a branch and paths; --branch and --path are for folders"
        )
    commit_session(repository, target, message, as_json=as_json)


def _listed(repository: vz.Repository) -> str:
    found = list(islice(repository.sessions, 4))
    return f"{', '.join(found[:3])}{', …' if len(found) > 3 else ''}" if found else "there are none"


def commit_session(
    repository: vz.Repository, session_id: str, message: str, *, as_json: bool
) -> None:
    """Commit what a session wrote, end it, and print the commit."""
    session = repository.resume(session_id)
    print_commit_line(session.commit(message), as_json=as_json)
    session.discard()


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_path)
@_makes_commit("Remove PATH")
def rm(
    context: Context, paths: tuple[str, ...], message: str | None, branch: str, as_json: bool
) -> None:
    """Delete arrays, groups or keys in one commit.

    Earlier commits still have them.
    """
    text = message or f"Remove {', '.join(path.strip('/') for path in paths)}"
    _one_commit(context, branch, lambda session: remove_paths(session, paths), text, as_json)


@click.command()
@click.argument("old", shell_complete=complete_path)
@click.argument("new", shell_complete=complete_path)
@_makes_commit("Move OLD to NEW")
def mv(
    context: Context, old: str, new: str, message: str | None, branch: str, as_json: bool
) -> None:
    """Rename an array, group or key in one commit.

    If NEW is a group, OLD moves into it. No value is copied.
    """
    text = message or f"Move {old.strip('/')} to {new.strip('/') or '/'}"
    _one_commit(context, branch, lambda session: session.move(old, new), text, as_json)


@click.command()
@click.argument("old", shell_complete=complete_path)
@click.argument("new", shell_complete=complete_path)
@_makes_commit("Copy OLD to NEW")
def cp(
    context: Context, old: str, new: str, message: str | None, branch: str, as_json: bool
) -> None:
    """Copy an array, group or key in one commit.

    If NEW is a group, the copy goes into it. OLD and NEW share their stored values.
    """
    text = message or f"Copy {old.strip('/')} to {new.strip('/') or '/'}"
    _one_commit(context, branch, lambda session: session.copy(old, new), text, as_json)


@click.command()
@click.argument("path", shell_complete=complete_path)
@click.argument("ref", shell_complete=complete_ref)
@_makes_commit("Restore PATH from REF")
def restore(
    context: Context, path: str, ref: str, message: str | None, branch: str, as_json: bool
) -> None:
    """Restore an array, group or key from REF, in one commit.

    PATH may be /, for everything.
    """
    text = message or f"Restore {path.strip('/') or '/'} from {ref}"
    _one_commit(context, branch, lambda session: session.restore(path, ref), text, as_json)


@click.command()
@click.argument("template")
@click.option(
    "-p",
    "--path",
    default="",
    help="Group to create it in; the root by default.",
    shell_complete=complete_path,
)
@click.option("--overwrite", is_flag=True, help="Replace arrays that exist.")
@_makes_commit("Create TEMPLATE")
def hierarchy(
    context: Context,
    template: str,
    path: str,
    message: str | None,
    overwrite: bool,
    branch: str,
    as_json: bool,
) -> None:
    """Create groups and arrays from a template, in one commit.

    TEMPLATE is a JSON or YAML file with a mapping of paths. An array has a shape, a dtype and other
    keywords of zarr.create_array; a group has attributes.
    """
    text = message or f"Create the hierarchy of {os.path.basename(template)}"

    def create(session: vz.Session) -> object:
        return session.create_hierarchy(template, path, overwrite=overwrite)

    _one_commit(context, branch, create, text, as_json)


def _one_commit(
    context: Context,
    branch: str,
    change: Callable[[vz.Session], object],
    message: str,
    as_json: bool,
) -> None:
    """Make a change in a session and commit it; the session ends, whatever happens."""
    session = context.repository.session(branch)
    try:
        change(session)
        made = session.commit(message)
    finally:
        session.discard()
    print_commit_line(made, as_json=as_json)


@click.command()
@click.argument("branch", default="main", shell_complete=complete_branch)
@click.option("-y", "--yes", is_flag=True, help="Do it without asking.")
@as_json
@with_repository
def undo(context: Context, branch: str, yes: bool, as_json: bool) -> None:
    """Take back the last move of a branch.

    A commit, merge, squash, pull, branch -f or branch -d moves a branch; vz reflog lists the moves.
    Undo shows what it will do and asks. The commits that it takes off the branch are kept for 30
    days, and another undo brings them back.
    """
    repository = context.repository
    last, before = _last_moves(repository, branch)
    if before.commit is None:
        raise vz.RefNotFoundError(
            f"the last move created {branch!r}; to delete it: vz branch -d {branch}", ref=branch
        )
    to = to_text(before.commit)
    if not as_json:
        _show_plan(repository, branch, last, to)
    if not yes:
        if as_json or sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError("nothing was moved; pass --yes to move it without being asked")
        click.confirm("Do it?", abort=True, err=True)
    if last.commit is None:
        made = repository.branches.create(branch, at=to)
    else:
        made = repository.branches.move(branch, to, expect=to_text(last.commit))
    print_commit_line(made, as_json=as_json)


def _last_moves(repository: vz.Repository, branch: str) -> tuple[RefEntry, RefEntry]:
    moves = list(islice(repository.reflog(branch), 2))
    if not moves:
        raise vz.RefNotFoundError(f"branch {branch!r} not found in {repository.url!r}", ref=branch)
    if len(moves) == 1:
        raise vz.RefNotFoundError(f"branch {branch!r} has not moved since it was made", ref=branch)
    return moves[0], moves[1]


def _show_plan(repository: vz.Repository, branch: str, last: RefEntry, to: str) -> None:
    console().print(f"undo '{escaped_line(last.why)}'", markup=False)
    if last.commit is None:
        console().print(escaped_line(f"branch {branch} comes back at {to}"), markup=False)
        return
    here = to_text(last.commit)
    console().print(escaped_line(f"branch {branch} moves from {here} to {to}"), markup=False)
    print_diff(repository.diff(here, to))


COMMANDS = [commit, rm, mv, cp, restore, hierarchy, undo]
