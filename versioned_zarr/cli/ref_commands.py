"""Ref commands: branches and tags."""

from __future__ import annotations

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    print_commit_line,
    print_json,
    print_names,
    tell_of_problems,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_branch_words, complete_tag_words
from versioned_zarr.engine.ref_mappings import MAIN, Branches, Tags


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME [AT]]", shell_complete=complete_branch_words)
@click.option("-d", "--delete", is_flag=True, help="Delete the named branches.")
@click.option("-m", "--move", is_flag=True, help="Rename a branch: -m OLD NEW.")
@click.option("-f", "--force", is_flag=True, help="Move the branch to AT if it exists already.")
@as_json
@with_repository
def branch(
    context: Context,
    names: tuple[str, ...],
    delete: bool,
    move: bool,
    force: bool,
    as_json: bool,
) -> None:
    """List branches, or create NAME at AT (default: main)."""
    branches = context.repository.branches
    if delete:
        _delete(branches, names)
    elif move:
        if len(names) != 2:
            raise click.UsageError("-m needs two names: the old name and the new name")
        branches.rename(*names)
    elif not names:
        _list(dict(branches), as_json)
        tell_of_problems(map(str, branches.broken.values()))
    else:
        name, at = _name_and_start(names)
        make = branches.move if force and name in branches else branches.create
        print_commit_line(make(name, at), as_json=as_json)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME [AT]]", shell_complete=complete_tag_words)
@click.option("-d", "--delete", is_flag=True, help="Delete the named tags.")
@as_json
@with_repository
def tag(context: Context, names: tuple[str, ...], delete: bool, as_json: bool) -> None:
    """List tags, or create NAME at AT (default: main)."""
    tags = context.repository.tags
    if delete:
        _delete(tags, names)
    elif not names:
        _list(dict(tags), as_json)
        tell_of_problems(map(str, tags.broken.values()))
    else:
        print_commit_line(tags.create(*_name_and_start(names)), as_json=as_json)


def _delete(refs: Branches | Tags, names: tuple[str, ...]) -> None:
    if not names:
        raise click.UsageError("-d needs the names to delete")
    for name in names:
        refs.delete(name)


def _name_and_start(names: tuple[str, ...]) -> tuple[str, str]:
    if len(names) > 2:
        raise click.UsageError("too many arguments; give a name, and the ref to create it at")
    return names[0], names[1] if len(names) == 2 else MAIN


def _list(commits: dict[str, vz.Commit], as_json: bool) -> None:
    if as_json:
        print_json({name: commit.to_dict() for name, commit in commits.items()})
        return
    print_names({name: f"{commit.cid}  {commit.summary}" for name, commit in commits.items()})


COMMANDS = [branch, tag]
