"""Commands of git, DVC, Icechunk, lakeFS and others, and what to type here instead.

The counterpart of `repository.guessed_names`, whose lines are Python.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

import click

_COMMIT = "there is no staging; a folder is committed whole: vz commit FOLDER -m MESSAGE"
_CHECKOUT = "there is no working copy; to get files: vz export REF FOLDER; to look: vz ls REF"
_MOVE = "to move a branch: vz branch -f NAME REF; to take back its last move: vz undo"
_MERGE = "sessions merge when they commit; to join branches: vz merge BRANCH"
_STASH = "sessions keep uncommitted work: vz sessions"
_REVIEW = "there are no reviews here; compare and merge: vz diff main BRANCH, vz merge BRANCH"
_SIZES = "sizes are shown by: vz tree, vz stats"
_FACTS = "facts about the repository are shown by: vz config, vz stats, vz tree"
_BLAME = "to find who changed an array or its chunks: vz blame PATH, vz log --path PATH"
_IMPORT = "to bring in plain Zarr: vz import SOURCE -m MESSAGE, or vz commit FOLDER -m MESSAGE"
_EXPORT = "to write plain Zarr: vz export REF FOLDER; one value: vz cat REF KEY"
_GC = "to remove what nothing reaches: vz gc; to combine packs: vz repack"
_CHECK = "to verify all data: vz fsck"
_BUNDLE = "to write a version to one file: vz bundle export REF FILE"
_REMOTE = "to add a remote: vz remote add NAME URL"
_UNDO = "to undo a commit by a new one: vz revert COMMIT; to take back the last move: vz undo"
_HISTORY = "the history is shown by: vz log"
_LIST = "the content of a version is listed by: vz ls, vz tree"
_BRANCH = "to create a branch: vz branch NAME REF; to list all: vz branch"
_PIPELINES = "there are no pipelines or experiments; commit a result: vz commit FOLDER -m MESSAGE"
_NOT_NEEDED = "large data needs nothing else: vz commit FOLDER -m MESSAGE"

GUESSES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("add", "stage", "save", "ci", "record"), _COMMIT),
    **dict.fromkeys(("checkout", "switch", "co", "worktree", "open"), _CHECKOUT),
    **dict.fromkeys(("reset", "update-ref", "reset-branch", "rollback"), _MOVE),
    **dict.fromkeys(("rebase", "am", "apply", "format-patch"), _MERGE),
    **dict.fromkeys(("stash", "shelve", "session", "transaction", "uncommitted"), _STASH),
    **dict.fromkeys(("pull-request", "pr", "review", "request-pull"), _REVIEW),
    **dict.fromkeys(("du", "size", "count-objects", "storage"), _SIZES),
    **dict.fromkeys(("info", "about", "describe", "doctor", "version", "whoami"), _FACTS),
    **dict.fromkeys(("annotate", "whatchanged", "praise"), _BLAME),
    **dict.fromkeys(("ingest", "upload", "put", "import-url", "write"), _IMPORT),
    **dict.fromkeys(("download", "get", "read", "to-zarr"), _EXPORT),
    **dict.fromkeys(
        ("prune", "expire", "expire-snapshots", "clean", "garbage-collect", "compact", "vacuum"),
        _GC,
    ),
    **dict.fromkeys(("verify", "check", "validate"), _CHECK),
    **dict.fromkeys(("archive", "pack", "zip", "tar", "car"), _BUNDLE),
    **dict.fromkeys(("remotes", "submodule"), _REMOTE),
    **dict.fromkeys(("uncommit", "amend", "abort"), _UNDO),
    **dict.fromkeys(("ancestry", "history", "commits", "shortlog", "lg", "snapshots"), _HISTORY),
    **dict.fromkeys(("ls-tree", "ls-files", "list", "dir", "objects", "inspect"), _LIST),
    **dict.fromkeys(("create-branch", "branches", "new-branch"), _BRANCH),
    **dict.fromkeys(
        ("tags", "create-tag"), "to create a tag: vz tag NAME REF; to list all: vz tag"
    ),
    **dict.fromkeys(("run", "repro", "exp", "queue", "dag", "metrics", "params"), _PIPELINES),
    "plots": "to draw what changed: vz diff main~1 --plot FILE",
    **dict.fromkeys(("lfs", "annex", "unprotect", "install"), _NOT_NEEDED),
    **dict.fromkeys(
        ("sparse-checkout", "filter-repo"), "part of a repository: vz clone --path PATH"
    ),
    **dict.fromkeys(("for-each-ref", "show-ref", "refs"), "refs are listed by: vz branch, vz tag"),
    **dict.fromkeys(("difftool", "compare"), "to compare values: vz diff BASE OTHER --values"),
    "mergetool": "conflicts are settled by a side: vz merge BRANCH --resolve theirs",
    **dict.fromkeys(("grep", "find", "search"), "keys are listed by: vz ls main --recursive"),
    "update": "to merge what another repository has: vz pull",
    "create": "to create a repository: vz init LOCATION",
    "repo": "to create a repository: vz init LOCATION; to name one: vz -C LOCATION …",
    "op": "moves of a branch are listed by: vz reflog BRANCH; to take back the last: vz undo",
    "ref-log": "the moves of a branch are listed by: vz reflog BRANCH",
    "cat-file": "one value is printed by: vz cat REF KEY",
    "rev-parse": "the CID of a ref is shown by: vz log -n 1 REF",
    "hash-object": "the CID of a file or folder is shown by: vz cid PATH",
    "delete": "to delete from a branch: vz rm PATH; a branch: vz branch -d NAME",
    "remove": "to delete from a branch: vz rm PATH; a branch: vz branch -d NAME",
    "rename": "to rename a node: vz mv PATH NEW; a branch: vz branch -m OLD NEW",
    "copy": "to copy a node: vz cp PATH NEW; to write plain Zarr: vz export REF FOLDER",
    "move": "to rename a node: vz mv PATH NEW; a branch: vz branch -m OLD NEW",
    "web": "to serve over HTTP: vz serve",
    "daemon": "to serve over HTTP: vz serve",
    "login": "credentials come from the environment; there is nothing to log in to",
}
"""What to type, by the command that was guessed."""

_OF_GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "remote": {
        **dict.fromkeys(("rm", "remove", "del"), "vz remote delete NAME"),
        **dict.fromkeys(("ls", "show", "-v", "get-url"), "vz remote list"),
        **dict.fromkeys(("rename", "set-url"), "vz remote delete NAME, vz remote add NAME URL"),
        **dict.fromkeys(("create", "new"), "vz remote add NAME URL"),
    },
    "bundle": {
        **dict.fromkeys(("create", "write"), "vz bundle export REF FILE"),
        **dict.fromkeys(("unbundle", "read", "verify"), "vz bundle import FILE"),
    },
    "cache": {
        **dict.fromkeys(("show", "info", "du"), "vz cache size"),
        **dict.fromkeys(("clean", "delete", "rm", "prune"), "vz cache clear"),
    },
}

_FILTERED = "vz log --json"
_SHOWN = "vz show COMMIT, vz diff BASE OTHER"
_LISTED = "vz branch"
_OF_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "log": {
        **dict.fromkeys(("-p", "--patch", "--stat", "--name-only", "--name-status"), _SHOWN),
        **dict.fromkeys(("--author", "--since", "--until", "--after", "--before"), _FILTERED),
        **dict.fromkeys(("--grep", "--format", "--pretty"), _FILTERED),
        "--all": "vz log BRANCH; all branches: vz branch",
        "--follow": "vz log --path PATH",
        "--max-count": "vz log -n NUMBER",
    },
    "branch": {
        **dict.fromkeys(("-a", "-v", "-l", "-r", "--all", "--list"), _LISTED),
        "-D": "vz branch -d NAME",
        "-c": "vz branch NAME REF",
        "-M": "vz branch -m OLD NEW",
    },
    "tag": {
        **dict.fromkeys(("-l", "-n", "--list"), "vz tag"),
        **dict.fromkeys(("-a", "-m", "-s", "--annotate"), "vz tag NAME REF"),
        "-f": "vz tag -d NAME, vz tag NAME REF",
    },
    "commit": {
        **dict.fromkeys(("-a", "--all"), "vz commit FOLDER -m MESSAGE"),
        "--amend": "vz undo, vz commit FOLDER -m MESSAGE",
    },
    "diff": {
        **dict.fromkeys(("--cached", "--staged"), "vz sessions ID"),
        **dict.fromkeys(("--name-only", "--name-status", "--summary"), "vz diff BASE --stat"),
        **dict.fromkeys(("--path", "-p"), "vz blame PATH, vz log --path PATH"),
    },
    "push": {
        **dict.fromkeys(("-u", "--set-upstream", "--all"), "vz push origin BRANCH"),
        **dict.fromkeys(("-f", "--force"), "vz push origin BRANCH --force-with-lease"),
        "--tags": "vz push origin TAG",
    },
    "merge": {
        "--abort": "vz merge BRANCH --resolve theirs; a conflict has changed nothing",
        "--squash": "vz merge BRANCH, vz squash SINCE",
        **dict.fromkeys(("-s", "-X", "--strategy"), "vz merge BRANCH --resolve theirs"),
    },
    "restore": dict.fromkeys(("-s", "--source", "--staged"), "vz restore PATH REF"),
    "clone": {"-b": "vz clone SOURCE DESTINATION --ref BRANCH"},
    "remote": {"-v": "vz remote list"},
    "config": dict.fromkeys(("-l", "--list", "--get"), "vz config"),
}
"""What to type, by command and by the option that was guessed."""


def unknown_option(option: str, command: str) -> str | None:
    """The error for an option that another tool has; None if nobody guesses it.

    Args:
        option: the option, such as `-D`.
        command: the command, without `vz`.
    """
    if command in ("log", "reflog") and option[1:].isdecimal():
        return f"no option {option!r}; type: vz {command} -n {option[1:]}"
    found = _OF_OPTIONS.get(command, {}).get(option)
    return None if found is None else f"no option {option!r}; type: {found}"


def unknown_command(word: str, group: str, known: Iterable[str]) -> str:
    """The error for a word that is no command, with what to type if anybody guesses it.

    Args:
        word: the word.
        group: the group of commands, such as `remote`; empty for `vz` itself.
        known: the commands of this group.
    """
    found = _OF_GROUPS.get(group, {}).get(word) if group else GUESSES.get(word)
    if found is not None:
        return f"no command {word!r}; {'type: ' if group else ''}{found}"
    shown = f"vz {group}".strip()
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.7)
    meant = f"; did you mean '{shown} {close[0]}'" if close else ""
    return f"no command {word!r}{meant}; see '{shown} --help'"


class UnknownCommandError(click.ClickException):
    """No command has this name. Its message says what to type, without a pointer to the help."""

    exit_code = 2


class Subcommands(click.Group):
    """A group of commands. It knows the words of other tools."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names."""
        word = args[0] if args else ""
        is_option = word[:1] in ("-", "")
        if not is_option and not ctx.resilient_parsing and self.get_command(ctx, word) is None:
            group = ctx.command_path.partition(" ")[2]
            raise UnknownCommandError(unknown_command(word, group, self.commands))
        return super().resolve_command(ctx, args)
