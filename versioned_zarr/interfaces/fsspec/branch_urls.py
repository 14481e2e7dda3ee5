"""Branch URLs, `vzarr://REF@/PATH::REPOSITORY`: parsed and written.

Only text that begins with `vzarr://` is a URL. Everything else is a path and is used unchanged. In
a URL, the ref and the path are percent-encoded. The ref ends at the first `@/`, and the path at the
first `::`; earlier occurrences are written `%40` or `%3A`. Independent of repositories.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from versioned_zarr.errors import InvalidUrlError

START: Final = "vzarr://"


class BranchUrl(NamedTuple):
    """A parsed URL.

    Attributes:
        ref: the branch or other ref, decoded; empty if the URL leaves that to an option.
        path: the path in it, decoded, without slashes at its ends; empty for the root.
        repository: the rest after `::`, unchanged; empty if there is none.
    """

    ref: str
    path: str
    repository: str


def is_url(text: str) -> bool:
    """Whether a text is a URL, not a path."""
    return text.startswith(START)


def read(text: str) -> BranchUrl:
    """Parse a URL.

    >>> read("vzarr://main@/x%3A%3Ay::file:///data/air.vz")
    BranchUrl(ref='main', path='x::y', repository='file:///data/air.vz')

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
    return BranchUrl(_decoded(ref), _decoded(path).strip("/"), repository)


def write(ref: str, path: str, repository: str) -> str:
    """The URL of a path on a ref, which `read` can parse.

    >>> write("a@b", "x::y/c 0", "memory://air")
    'vzarr://a%40b@/x%3A%3Ay/c%200::memory://air'
    """
    tail = f"::{repository}" if repository else ""
    return f"{START}{quote(ref, safe='/')}@/{quote(path, safe='/')}{tail}"


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidUrlError(
            f"{text!r} in a {START} URL encodes bytes that are not UTF-8", url=text
        ) from error
