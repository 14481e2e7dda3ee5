"""Branch URLs, `vzarr://REF@/PATH::REPOSITORY`: parsed and written.

In place of a ref, `session/ID` names an open session: `vzarr://session/ID@/PATH::REPOSITORY`. A
branch whose name reads like that has `%2F` in place of its slash.

Only text that begins with `vzarr://` is a URL. Everything else is a path and is used unchanged. In
a URL, the ref and the path are percent-encoded. The ref ends at the first `@/`, and the path at the
first `::`; earlier occurrences are written `%40` or `%3A`. Independent of repositories.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from versioned_zarr.errors import InvalidUrlError

START: Final = "vzarr://"
_SESSION: Final = re.compile(r"session/([0-9]{8}T[0-9]{6}-[0-9a-f]{8})")
"""A session, by the form of its ID; any other ref that begins with `session/` is a branch."""


class BranchUrl(NamedTuple):
    """A parsed URL.

    Attributes:
        ref: the branch or other ref, decoded; empty if the URL leaves that to an option.
        path: the path in it, decoded, without slashes at its ends; empty for the root.
        repository: the rest after `::`, unchanged; empty if there is none.
        session: the ID of an open session, in place of a ref; usually empty.
    """

    ref: str
    path: str
    repository: str
    session: str = ""


def is_url(text: str) -> bool:
    """Whether a text is a URL, not a path."""
    return text.startswith(START)


def read(text: str) -> BranchUrl:
    """Parse a URL.

    >>> read("vzarr://main@/x%3A%3Ay::file:///data/air.vz")
    BranchUrl(ref='main', path='x::y', repository='file:///data/air.vz', session='')
    >>> read("vzarr://session/20260131T120000-0a1b2c3d@/air").session
    '20260131T120000-0a1b2c3d'

    `vzarr://dev@` is the root of `dev`. In `vzarr://@/air` and `vzarr://`, the ref is that of the
    option `ref`.

    Raises:
        InvalidUrlError: the end of the ref is missing, or percent-encoded text is not UTF-8.
    """
    rest, _, repository = text.removeprefix(START).partition("::")
    ref, is_whole, path = rest.partition("@/")
    if not is_whole:
        if rest and not rest.endswith("@"):
            shown = START + rest
            raise InvalidUrlError(
                f"{shown!r} does not name a branch: write '{START}{rest}@/' for the "
                f"branch {rest!r}, or '{START}main@/{rest.strip('/')}' for that path on main",
                url=shown,
            )
        ref = rest[:-1]
    session = _SESSION.fullmatch(ref)
    named = ("", session[1]) if session is not None else (_decoded(ref), "")
    return BranchUrl(named[0], _decoded(path).strip("/"), repository, named[1])


def write(ref: str, path: str, repository: str) -> str:
    """The URL of a path on a ref, which `read` can parse.

    >>> write("a@b", "x::y/c 0", "memory://air")
    'vzarr://a%40b@/x%3A%3Ay/c%200::memory://air'
    """
    is_like_a_session = _SESSION.fullmatch(ref) is not None
    return _written(quote(ref, safe="" if is_like_a_session else "/"), path, repository)


def write_session(session: str, path: str, repository: str) -> str:
    """The URL of a path in an open session, which `read` can parse.

    >>> write_session("20260131T120000-0a1b2c3d", "air", "memory://air")
    'vzarr://session/20260131T120000-0a1b2c3d@/air::memory://air'
    """
    return _written(f"session/{session}", path, repository)


def _written(ref: str, path: str, repository: str) -> str:
    tail = f"::{repository}" if repository else ""
    return f"{START}{ref}@/{quote(path, safe='/')}{tail}"


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidUrlError(
            f"{text!r} in a {START} URL encodes bytes that are not UTF-8", url=text
        ) from error
