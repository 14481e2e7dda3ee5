"""Origin commands: blame and bisect, which find the commit that changed something."""

from __future__ import annotations

import os
import subprocess
from typing import Final

import click

import versioned_zarr as vz
from versioned_zarr.cli.output import (
    Context,
    as_json,
    console,
    print_commit,
    print_json,
    print_parts,
    save_figure,
    with_repository,
)
from versioned_zarr.cli.shell.completion import complete_path, complete_ref

_CANNOT_RUN: Final = (126, 127)
"""What shells say of a command that cannot be run."""


@click.command()
@click.argument("path", shell_complete=complete_path)
@click.argument("ref", default="main", shell_complete=complete_ref)
@click.option("--plot", "picture", metavar="FILE", help="Draw it, as .png, .svg or .pdf.")
@as_json
@with_repository
def blame(context: Context, path: str, ref: str, picture: str | None, as_json: bool) -> None:
    """Show which commit last changed each chunk.

    PATH is that of an array.

    One line for each commit, newest first, with the box of the chunk grid that contains its chunks.
    With --json, also the commit of each chunk.
    """
    found = context.repository.blame(path, ref)
    if picture is not None:
        save_figure(found.plot(), picture)
    if as_json:
        print_json(found.to_dict())
    else:
        console().print(str(found), markup=False)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("good", shell_complete=complete_ref)
@click.argument("bad", shell_complete=complete_ref)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@as_json
@with_repository
def bisect(context: Context, good: str, bad: str, command: tuple[str, ...], as_json: bool) -> None:
    """Find the first bad commit by running a command.

    It is run for a few commits. It gets the commit in place of each argument {}, and in the
    variable VERSIONED_ZARR_COMMIT, and ends with exit code 0 if the commit is good.
    """

    def is_good(snapshot: vz.Snapshot) -> bool:
        assert snapshot.commit is not None
        cid = snapshot.commit.cid
        environment = {
            **os.environ,
            "VERSIONED_ZARR_COMMIT": cid,
            "VERSIONED_ZARR_REPO": context.repository.url,
        }
        words = [cid if word == "{}" else word for word in command]
        try:
            code = subprocess.run(words, env=environment, check=False).returncode
        except OSError as error:
            raise vz.InvalidInputError(f"cannot run {words[0]!r}: {error.strerror}") from error
        if code in _CANNOT_RUN:
            raise vz.InvalidInputError(f"cannot run {words[0]!r}: exit code {code}")
        if not as_json:
            verdict = ("good", "green") if code == 0 else ("bad", "red")
            print_parts(verdict, (f" {cid[:16]} {snapshot.commit.summary}", ""))
        return code == 0

    found = context.repository.bisect(good, bad, is_good)
    if as_json:
        print_json(found.to_dict())
        return
    print_parts(("first bad commit:", "bold"))
    print_commit(found)


COMMANDS = [blame, bisect]
