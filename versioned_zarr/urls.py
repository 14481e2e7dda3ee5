"""URLs: checks them, explains errors, and hides users and passwords.

Reads only text. Rules: RFC 3986 section 3.2.1, and section 2.1 for percent-encoding.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from versioned_zarr.errors import InvalidUrlError

_LOCAL: Final = ("file:", "memory:")
_BEFORE_HOST: Final = re.compile(
    r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:/*|(?:[A-Za-z][A-Za-z0-9+.-]*)?//"
    r"|(?:ipfs\+)?/(?:ip[46]|ip6zone|dns[46]?|dnsaddr)/)"
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_GONE_WRONG: Final = re.compile(
    r"(?!\.{0,2}/(?!/))"  # such text is a path
    r"(?:[^/]*//[^/@]*:.*@"
    r"|\W*(?:(?:ipfs\+)?https?|ipfs|ipns|lakefs|s3|gs|az|abfs|file|memory):?//)",
    re.IGNORECASE | re.DOTALL,
)
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d+$)?")
_HIGHEST_PORT: Final = 65535


class User(NamedTuple):
    """The user in a URL, decoded."""

    name: str
    password: str


def without_user(text: str) -> str:
    """A URL or multiaddr without its user, valid or not; a path is returned unchanged.

    If it is unclear whether something is part of a password, such as text before an `@` in a path,
    it is omitted.

    >>> without_user("ipfs+http://me:s3cret@node:5001/climate")
    'ipfs+http://node:5001/climate'
    >>> without_user("s3://me:s3/cret@node/x")
    's3://node/x'
    """
    found = _BEFORE_HOST.match(text)
    if found is None or text.lstrip().lower().startswith(_LOCAL):
        return text
    rest = text[found.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif ":" in authority or "http" in found.group().lower():
        rest = rest[rest.rfind("@") + 1 :]
    if found.group().endswith("://"):
        host = re.split(r"[/?#]", rest, maxsplit=1)[0]
        known = _HOST.match(host)
        rest = (known.group() if known else "") + rest[len(host) :]
    return text[: found.end()] + rest


def has_scheme(text: str) -> bool:
    """Whether a text begins with a URL scheme; a single letter is a drive.

    >>> has_scheme("memory://x"), has_scheme("data.vz"), has_scheme("C:/data.vz")
    (True, False, False)
    """
    return _SCHEME.match(text) is not None


def tidied(text: str) -> str:
    """The text without the spaces around a URL; a path is returned unchanged.

    >>> tidied(" memory://scratch"), tidied(" a folder")
    ('memory://scratch', ' a folder')

    Raises:
        InvalidUrlError: it looks like a URL, but would be used as a path; the message contains no
            user or password.
    """
    bare = text.strip()
    if has_scheme(bare) or bare.startswith("ipfs+/"):
        return bare
    if _GONE_WRONG.match(bare):
        before, slashes, rest = bare.partition("//")
        shown = f"{before}{slashes}{rest[rest.rfind('@') + 1 :]}"
        raise InvalidUrlError(
            f"{shown!r} looks like a URL but is not valid: a URL begins with a scheme, a colon "
            "and two "
            "slashes, as in ipfs+http://HOST:PORT/NAME; if it is a path, write ./ before it",
            url=shown,
        )
    return text


def check_characters(text: str) -> None:
    """Make sure that a text can be a file name.

    Raises:
        InvalidUrlError: it contains a NUL byte, or is not valid Unicode.
    """
    shown = without_user(text)
    if "\0" in text:
        raise InvalidUrlError(f"a path cannot hold a NUL byte: {shown!r}", url=shown)
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise InvalidUrlError(
            f"a path must be Unicode text, but {shown!r} is not: {error.reason}", url=shown
        ) from error


def split_url(text: str) -> SplitResult:
    """Parse a URL.

    Raises:
        InvalidUrlError: it is not valid; the message contains no user or password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # contains the password, so it must not be the cause of the error
        parts, port = None, None
    if parts is not None and not (port is not None and not 0 < port <= _HIGHEST_PORT):
        return parts
    shown = without_user(text)
    raise InvalidUrlError(
        f"{shown!r} is not a valid URL: its host or port cannot be parsed; write a '/', '?', '#' "
        "or '@' in a user or password as %2F, %3F, %23 or %40",
        url=shown,
    )


def take_user(text: str) -> tuple[str, User | None]:
    """Split a URL into the URL without its user, and the user.

    Raises:
        InvalidUrlError: it is not valid, or contains an `@` that may end a password with a slash.
    """
    parts = split_url(text)
    if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
        shown = without_user(text)
        raise InvalidUrlError(
            f"an '@' follows the host of {shown!r}: in a user or password, write '/' as %2F, "
            "'?' as %3F and '#' as %23; write '@' in a name as %40",
            url=shown,
        )
    before, at, host = parts.netloc.rpartition("@")
    if not at:
        return text, None
    name, _, password = before.partition(":")
    user = User(unquote(name), unquote(password))
    return parts._replace(netloc=host).geturl(), user if before else None
