"""Advice on the command line: shell words, never Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import versioned_zarr
from tests.syntax import parsed

pytest.importorskip("click")
from versioned_zarr.cli.shell.advice import in_shell_words

PACKAGE = Path(versioned_zarr.__file__).parent
PYTHON = re.compile(
    r"\b(repo|vz|session|snapshot)\.[a-z_]+\b|\b[a-z_]+=(True|False|None|\[|'|\"|\B)"
    r"|\b[a-z_]+\(\)|timedelta|\.strip"
)
# Not on the way to the command line: what `print`, notebooks, web pages, zarr, xarray and fsspec
# say, requests to servers, and options that the command line never passes.
OTHERS = (
    "testing", "interfaces/web", "interfaces/fsspec", "interfaces/display", "interfaces/zarr",
    "guessed_names.py", "repository/mapping.py", "repository/session_end.py",
    "repository/session.py", "advice.py",
)  # fmt: skip
NOT_SAID = (
    "rb=",
    "bytes={",
    "boundary=",
    "version=1;",
    "client= takes",
    "pass store= or",
    "a repository is opened with",
)
ERRORS = re.compile(r"Error$|^(fail|_?not_found|gone|refuse)")


def text_of(node: ast.AST) -> str | None:
    """The text of a string or f-string, with `'x'` for what is put in as `{…!r}`."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            parts.append("'x'" if part.conversion == ord("r") else "x")
        else:
            parts.append(str(getattr(part, "value", "")))
    return "".join(parts)


def messages() -> Iterator[tuple[str, str]]:
    """Every text of several words in the package that has Python in it, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if any(other in name for other in OTHERS):
            continue
        tree = parsed(path)
        inner = {
            id(value)
            for node in ast.walk(tree)
            for value in (
                node.values
                if isinstance(node, ast.JoinedStr)
                else [node.value]
                if isinstance(node, ast.Expr)
                else []
            )
        }
        for node in ast.walk(tree):
            text = None if id(node) in inner else text_of(node)
            if text and " " in text and PYTHON.search(text):
                yield f"{name}: {text}", text


FOUND = [(place, text) for place, text in messages() if not any(each in text for each in NOT_SAID)]


def test_the_messages_are_found() -> None:
    assert len(FOUND) > 25


@pytest.mark.parametrize("text", [pytest.param(text, id=place[:60]) for place, text in FOUND])
def test_no_message_keeps_its_python(text: str) -> None:
    shown = in_shell_words(text)
    assert PYTHON.search(shown) is None, shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("x; vz.create('r.vz') creates one", "x; 'vz init' creates one"),
        ("not empty; open it with vz.open, or choose", "not empty; use it with -C, or choose"),
        ("another path, or pass overwrite=True", "another path, or pass --overwrite"),
        ("since bafy; pass allow_empty=True to commit anyway", "since bafy"),
        ("delete it with repo.sessions.delete(id)", "delete it with 'vz sessions --delete ID'"),
        ("delete it with repo.sessions.delete('a1')", "delete it with 'vz sessions --delete a1'"),
        ("keep the rest with repo.resume('a1')", "keep the rest with 'vz commit a1'"),
        ("it ended; open a new one with repo.session()", "it ended; run the command again"),
        ("give it as force_with_lease='bafy'", "give it as --lease bafy"),
        ("write anyway with max_bytes=9", "write anyway with --max-bytes 9"),
        ("create a repository with hash='b', or", "create a repository with --hash b, or"),
        ("if it was exported with since=, the", "if it was exported with --since, the"),
        ("a value; use snapshot.read", "a value; read it with 'vz cat'"),
        ("pass gateways= or set $X to try", "pass --gateway or set $X to try"),
        ("the option allow_http=True", "--storage-option allow_http=true"),
    ],
)  # fmt: skip
def test_advice_is_translated(said: str, shown: str) -> None:
    assert in_shell_words(said) == shown
