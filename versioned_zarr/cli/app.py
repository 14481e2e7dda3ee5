"""The group of all commands, how they find a repository, and how errors reach the user."""

from __future__ import annotations

import os
import sys
import warnings

import click
from rich.console import Console

import versioned_zarr as vz
from versioned_zarr.cli import history, keeping, network, refs, serve, transfer, values
from versioned_zarr.cli.output import Context, print_conflicts
from versioned_zarr.urls import without_user

EXIT_FAILURE = 1
EXIT_CONFLICT = 3
EXIT_INTERRUPTED = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed (or fsck found damage), 2 wrong usage, 3 conflicts, "
    "130 interrupted.",
)
@click.option(
    "-C",
    "repository",
    metavar="REPO",
    envvar="VERSIONED_ZARR_REPO",
    default=None,
    help="The repository: a path or URL.  [default: $VERSIONED_ZARR_REPO, or the one around here]",
)
@click.version_option(vz.__version__, prog_name="vz")
@click.pass_context
def cli(context: click.Context, repository: str | None) -> None:
    """Branches, commits, diffs and merges for Zarr."""
    context.obj = Context(repository)


for module in (history, refs, values, keeping, transfer, network, serve):
    for command in module.COMMANDS:
        cli.add_command(command)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete vz's words: eval "$(vz completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "vz", "_VZ_COMPLETE").source())


def run(arguments: list[str] | None = None) -> None:
    """Run `vz` and leave with its exit code; errors are one line on stderr."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            code = cli.main(words, prog_name="vz", standalone_mode=False)
        if code:  # of a command that left early; others return None
            sys.exit(code)
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = "" if context is None else f"; see '{context.command_path} --help'"
        _say(f"{_shown(error.format_message(), words).rstrip('.')}{hint}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted; run the command again to go on")
        sys.exit(EXIT_INTERRUPTED)
    except vz.ConflictError as error:
        print_conflicts(error.conflicts, as_json="--json" in words)
        _say(_shown(str(error).partition(":\n")[0], words))
        sys.exit(EXIT_CONFLICT)
    except (vz.VersionedZarrError, OSError) as error:
        _say(_shown(str(error), words))
        sys.exit(EXIT_FAILURE)


def _shown(message: str, words: list[str]) -> str:
    """A message without the users of URLs that the command was given, as a ref or file may be."""
    for word in words:
        for url in (word, word.partition("=")[2]):
            if not os.path.exists(url):
                message = message.replace(url, without_user(url)) if url else message
    return message


def _say(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"vz: {message}", markup=False)
