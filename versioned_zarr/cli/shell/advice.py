"""Advice: the Python that errors and warnings tell callers of the API to write, in shell words.

One place for all of it, so that an error can be worded once, for those who catch it.
"""

from __future__ import annotations

import re
from typing import Final

_ID = r"\(['\"]?([^'\"()]+)['\"]?\)"  # ('x8d3') or (id)
_RESUME = rf"repo\.resume{_ID}"


def _id(found: re.Match[str]) -> str:
    """The ID in a call; the word itself stands for one."""
    return "ID" if found[1] in ("id", "session_id") else found[1]


_WORDS: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        # Sessions
        (rf"{_RESUME}\.commit\('…'\)", lambda found: f"vz commit {_id(found)} -m MESSAGE"),
        (r", and next time write `with repo\.session\([^`]*`", ""),
        (rf"resume it with {_RESUME}", lambda found: f"commit it with 'vz commit {_id(found)}'"),
        (_RESUME, lambda found: f"'vz commit {_id(found)}'"),
        (rf"repo\.sessions\.delete{_ID}", lambda found: f"'vz sessions --delete {_id(found)}'"),
        (
            r"or never wrote; open a new one with repo\.session\(\)",
            "or never wrote; 'vz sessions' lists the others",
        ),
        (
            r"(read the branch, or )?open a new [^;]*?repo\.session\([^)]*\)(\.url)?",
            "run the command again",
        ),
        (r"open a session to write: repo\.session\('main'\)", "vz commit, import, rm and mv write"),
        (r"; pass allow_empty=True to commit anyway", ""),
        (r"commit on top of it with allow_empty=True,", "commit on top of it,"),
        (r"to merge the two, pass on_moved='merge'", "run the command again to merge the two"),
        (r"commit again with resolve=\{.*\}", "repeat the command with --resolve ours or theirs"),
        (r"call commit\(\) on the file system that wrote, or ", ""),
        (r"compare two refs with repo\.diff", "compare two refs with 'vz diff'"),
        # Repositories
        (
            r"write to repo\.session\(…\)\. (.*): vz\.import_zarr\(repo, '([^']*)', …\)",
            r"\1: vz import '\2' -m MESSAGE",
        ),
        (r"vz\.recover\(", "in Python, versioned_zarr.recover("),
        (r"vz\.create\((?:'[^']*'|\"[^\"]*\")\) creates one", "'vz init' creates one"),
        (r"(open|and open) it with vz\.open\b(?!_)", r"use it with -C"),
        (r"open it with vz\.open_snapshot", "read it with 'vz ls', 'vz cat' or 'vz export'"),
        (r"read it in place with vz\.open_snapshot", "read it in place with 'vz ls ADDRESS'"),
        (
            r"open it without shared=(\w+), or copy it with vz\.clone\((.*?), …, shared=\w+\)",
            r"leave --shared out, or copy it with 'vz clone SOURCE DESTINATION'",
        ),
        (r"and shared=True is", "and --shared is"),
        (r"create a repository with hash='?([\w-]+)'?", r"create a repository with --hash \1"),
        (r"remotes\.add\('([^']*)', URL\)", r"'vz remote add \1 URL'"),
        (r"repo\.reflog\b", "'vz reflog'"),
        (r"use snapshot\.read", "read it with 'vz cat'"),
        (
            r"keep_reflog must be a timedelta of zero or more, such as timedelta\([^)]*\)",
            "--keep-reflog must be a number of days",
        ),
        # Options
        (r"force_with_lease='([^']*)'", r"--lease \1"),
        (r"force_with_lease=", "--lease "),
        (r"force_with_lease", "--force-with-lease"),
        (r"max_(keys|bytes)=", r"--max-\1 "),
        (r"pass overwrite=True", "pass --overwrite"),
        (r"pass update=True", "pass --update"),
        (r"import it with vz\.import_from\(repo, ('[^']*'|\"[^\"]*\")\)", r"run 'vz import' on it"),
        (r"leave history=True out", "leave --history out"),
        (r"; open it with icechunk\.Repository\.open and pass that", ""),
        (r"takes no history=True", "takes no --history"),
        (r"overwrite=True", "--overwrite"),
        (r"with since=", "with --since"),
        (r"the option allow_http=True", "--storage-option allow_http=true"),
        (
            r"pass access_key_id= and secret_access_key=",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (r"pass credentials and other options as storage_options=", "see 'vz --help' for options"),
        (r"tell lakeFS where to store it: storage_namespace='[^']*'", "use lakeFS itself"),
        (r"pass gateways= or set", "pass --gateway or set"),
        (r"\(gateways=, --gateway\)", "(--gateway)"),
        (r"pass headers= or token= that it accepts, or set", "set"),
        (r"; pass them, set (\$)", r"; set \1"),
        (r"pass them, set", "set"),
        (r"remove the line break at the end of a file with \.strip\(\)", "remove line breaks"),
        (r"paths must be a list of paths, such as \[.*\]", "pass --path once for each"),
    )
)


def in_shell_words(message: str) -> str:
    """A message with advice for the command line instead of for callers of the API.

    >>> in_shell_words("the root is not empty; pass overwrite=True")
    'the root is not empty; pass --overwrite'
    """
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message
