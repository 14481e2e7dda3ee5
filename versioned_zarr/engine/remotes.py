"""Remotes: names and URLs of other repositories, in a small file beside the refs.

If the repository is on a server, the file is on this machine, like its sessions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.open_options import Location
from versioned_zarr.errors import (
    AlreadyExistsError,
    CorruptError,
    InvalidRefError,
    InvalidUrlError,
    NotFoundError,
    RepositoryNotFoundError,
)
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.history.refs import REMOTES
from versioned_zarr.ipld.address.multiaddr import spelled_out
from versioned_zarr.urls import check_characters, has_scheme, tidied, without_user

FILE = "remotes.json"
ORIGIN = "origin"
"""The name of the remote from which a clone was made."""
UNNAMED = "fetched"
"""The name for branches fetched from a URL without a name, until the next such fetch."""


class Remotes(Mapping[str, str]):
    """The remotes: a Mapping from names to the URLs of other repositories. Reads are live."""

    def __init__(self, stores: RepositoryContext) -> None:
        self._stores = stores

    def __getitem__(self, name: str) -> str:
        urls = self._read()
        if name not in urls:
            raise NotFoundError(self._lacks(name, urls))
        return urls[name]

    def _lacks(self, name: str, urls: Mapping[str, str]) -> str:
        known = ", ".join(repr(each) for each in sorted(urls)) or "none"
        return f"no remote {name!r} in {self._stores.storage.url!r}; remotes: {known}"

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._read()))

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"<Remotes {dict(self)!r}>"

    def add(self, name: str, url: str | os.PathLike[str]) -> None:
        """Add a remote. The repository need not exist yet.

        Args:
            name: a valid branch name without slashes.
            url: a path or a URL, without user and password; put those in the environment.

        Raises:
            InvalidRefError: the name is not valid.
            InvalidUrlError: the URL contains a password.
            AlreadyExistsError: a remote of this name exists.
        """
        check_ref_name(name)
        if "/" in name or name == UNNAMED:
            raise InvalidRefError(
                f"{name!r} cannot be the name of a remote: "
                + (
                    "it is reserved for URLs without a remote"
                    if name == UNNAMED
                    else "it contains a slash"
                ),
                ref=name,
            )
        found = absolute(url)
        with self._stores.storage.lock("remotes"):
            urls = self._read()
            if name in urls:
                raise AlreadyExistsError(f"remote {name!r} already exists", name=name)
            self._write({**urls, name: found})

    def delete(self, name: str) -> None:
        """Delete a remote and its remote branches.

        Raises:
            NotFoundError: there is no such remote.
        """
        with self._stores.storage.lock("remotes"):
            urls = self._read()
            if name not in urls:
                self[name]  # the error lists the remotes
            del urls[name]
            self._write(urls)
        refs = self._stores.refs
        for ref in refs.names(REMOTES):
            entry = refs.read(REMOTES, ref)
            if ref.startswith(f"{name}/") and entry is not None:
                refs.swap(REMOTES, ref, entry.commit, None, f"remote: deleted {name}")

    def check_name(self, remote: Location) -> None:
        """Check that an argument is the name of a remote, a path or a URL.

        Raises:
            RepositoryNotFoundError: it is none of these.
        """
        if not isinstance(remote, str) or not remote or {"/", "\0"} & {*remote}:
            return
        urls = self._read()
        if remote not in urls and not has_scheme(remote.strip()) and not os.path.lexists(remote):
            raise RepositoryNotFoundError(
                f"{self._lacks(remote, urls)}; add it with remotes.add({remote!r}, URL), or give a "
                "path or URL",
                url=remote,
            )

    def name_of(self, url: str) -> str | None:
        """The name of the remote with this URL, or None."""
        return next((name for name, each in self.items() if each == absolute(url)), None)

    def _read(self) -> dict[str, str]:
        try:
            text = bytes(self._stores.storage.read(FILE))
        except FileNotFoundError:
            return {}
        try:
            return {str(name): str(url) for name, url in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise CorruptError(
                f"{FILE} of {self._stores.storage.url!r} is damaged: {error}; "
                "remove it, and add the remotes again",
                where=FILE,
            ) from error

    def _write(self, urls: Mapping[str, str]) -> None:
        text = json.dumps(urls, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        self._stores.storage.put(FILE, [text.encode()])


def absolute(url: str | os.PathLike[str]) -> str:
    """The URL in absolute, normalized form.

    Raises:
        InvalidUrlError: it contains a password, or cannot be parsed.
    """
    text = os.fspath(url)
    if not text:
        raise InvalidUrlError("a remote needs a path or a URL", url=text)
    check_characters(text)
    is_path = os.path.exists(text)
    if not is_path and isinstance(url, str):
        text = os.path.expanduser(text)
    if not is_path:
        text = spelled_out(tidied(text) if isinstance(url, str) else text)
    if is_path or not has_scheme(text):
        return Path(os.path.abspath(text)).as_uri()
    shown = without_user(text)
    if shown != text:
        raise InvalidUrlError(
            f"the URL of a remote must not hold a user or password; give {shown!r}, and pass "
            "credentials through the environment",
            url=shown,
        )
    return text
