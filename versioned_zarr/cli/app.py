"""The command-line app: the group of all commands, and how errors reach the user."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

import versioned_zarr as vz
from versioned_zarr.cli import (
    change_commands,
    history_commands,
    inspect_commands,
    maintenance_commands,
    network_commands,
    origin_commands,
    ref_commands,
    serve_command,
    transfer_commands,
    value_commands,
)
from versioned_zarr.cli.exchange.export_command import export
from versioned_zarr.cli.exchange.import_command import import_
from versioned_zarr.cli.output import EXIT_INTERRUPTED, Context, console, print_conflicts
from versioned_zarr.cli.shell.advice import in_shell_words
from versioned_zarr.cli.shell.completion import VARIABLE, complete_folder, leave_if_unanswered
from versioned_zarr.cli.shell.examples import EXAMPLES
from versioned_zarr.cli.shell.other_tools import (
    Subcommands,
    UnknownCommandError,
    unknown_command,
    unknown_option,
)
from versioned_zarr.cli.store_options import storage_option
from versioned_zarr.engine.open_options import ServerOptions
from versioned_zarr.terminal_text import escaped_line
from versioned_zarr.urls import without_user

EXIT_FAILURE = 1
EXIT_CONFLICT = 3

_CONTROLS = re.compile(r"\s*[\x00-\x1f\x7f-\x9f\u2028\u2029]+\s*")
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")


class Interrupted(click.ClickException):
    """The user interrupted a command. A click error, since click prints only an empty line."""

    exit_code = EXIT_INTERRUPTED

    def __init__(self) -> None:
        super().__init__("interrupted; run the command again to resume")


class Commands(Subcommands):
    """The group of all commands. It reports when a command is interrupted."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*arguments, **options)
        except KeyboardInterrupt as error:
            raise Interrupted from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed (or fsck found damage), 2 wrong usage, 3 conflicts, "
    "130 interrupted.\n\nThe tab key completes commands, refs, paths, sessions and remotes after "
    'eval "$(vz completion bash)"; see vz completion --help.',
)
@click.option(
    "-C",
    "repository",
    metavar="REPO",
    envvar="VERSIONED_ZARR_REPO",
    default=None,
    shell_complete=complete_folder,
    help="Repository path or URL.  [default: $VERSIONED_ZARR_REPO, or the repository that contains "
    "the current folder]",
)
@storage_option
@click.version_option(vz.__version__, prog_name="vz")
@click.pass_context
def cli(context: click.Context, repository: str | None, storage_options: ServerOptions) -> None:
    """Version control for Zarr: branches, commits, diffs and merges."""
    context.obj = Context(repository, storage_options)


for module in (
    history_commands,
    inspect_commands,
    origin_commands,
    change_commands,
    ref_commands,
    value_commands,
    maintenance_commands,
    transfer_commands,
    network_commands,
    serve_command,
):
    for command in module.COMMANDS:
        cli.add_command(command)
cli.add_command(import_)
cli.add_command(export)


def _command_names(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    found: click.Command = cli
    for name in context.params.get("names") or ():
        known = found.commands if isinstance(found, click.Group) else {}
        found = known.get(name, found)
    known = found.commands if isinstance(found, click.Group) else {}
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    Put one of these lines into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:

    \b
      eval "$(vz completion bash)"
      eval "$(vz completion zsh)"
      vz completion fish | source
    """  # noqa: D301 - click reads the backspace
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "vz", VARIABLE).source())


@cli.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...", shell_complete=_command_names)
@click.pass_context
def help_(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command."""
    above = context.find_root()
    found: click.Command = cli
    for name in names:
        known = found.commands if isinstance(found, click.Group) else {}
        if name not in known:
            group = above.command_path.partition(" ")[2]
            raise UnknownCommandError(unknown_command(name, group, known))
        found = known[name]
        above = click.Context(found, parent=above, info_name=name)
    click.echo(found.get_help(above))


def _add_examples(group: click.Group, above: str = "") -> None:
    """Add its example to the help of each command."""
    for name, command in group.commands.items():
        words = f"{above} {name}".strip()
        if isinstance(command, click.Group):
            _add_examples(command, words)
        else:
            command.epilog = f"Example:  {EXAMPLES[words]}"


_add_examples(cli)


def run(arguments: list[str] | None = None) -> None:
    """Run `vz` and exit with its exit code. Each error is one line on stderr."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(
                f"warning: {_shown(str(message), words)}"
            )
            code = cli.main(words, prog_name="vz", standalone_mode=False)
        if code:  # of a command that exited early; others return None
            sys.exit(code)
    except SystemExit:
        leave_if_unanswered()
        raise
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        if _is_help(error):
            error.show()
            sys.exit(error.exit_code)
        _say(_of_usage(error, words))
        sys.exit(error.exit_code)
    except vz.ConflictError as error:
        print_conflicts(error.conflicts, as_json="--json" in words)
        _say(_shown(str(error).partition(":\n")[0], words))
        sys.exit(EXIT_CONFLICT)
    except (vz.VersionedZarrError, OSError) as error:
        _say(_shown(str(error), words))
        sys.exit(EXIT_FAILURE)


def _of_usage(error: click.ClickException, words: list[str]) -> str:
    """The message for a wrong use of the command line."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption) and context is not None:
        found = unknown_option(error.option_name, context.command_path.partition(" ")[2])
        if found is not None:
            return found
    message = _shown(error.format_message(), words).rstrip(".")
    if context is None:
        return message
    start, end = (" (", ")") if message.endswith(("?", ")")) else ("; ", "")
    return f"{message}{start}see '{context.command_path} --help'{end}"


def _shown(message: str, words: list[str]) -> str:
    """The message without the user names and passwords of URLs on the command line."""
    for word in words:
        for url in (word, word.partition("=")[2]):
            if not os.path.exists(url):
                message = message.replace(url, without_user(url)) if url else message
    return in_shell_words(message)


def _is_help(error: click.ClickException) -> bool:
    """Whether a group was called without a command; click 8.2 and later report it."""
    kind = getattr(click.exceptions, "NoArgsIsHelpError", None)
    return kind is not None and isinstance(error, kind)


def _say(message: str) -> None:
    """Print a message on one line, whatever characters a server or a file put into it."""
    line = _CONTROLS.sub(" ", _ESCAPES.sub("", message)).strip()
    console(is_error=True).print(escaped_line(f"vz: {line}"), markup=False)
