"""The backend registry: from the scheme of a URL to a backend, one entry for each scheme."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Final, TypeAlias, cast
from urllib.parse import unquote

from versioned_zarr.backends.http.authorization import basic, names_one
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.backends.objectstore.store_url import is_store, store_url
from versioned_zarr.backends.sharedfolder.shared_folder_backend import SharedFolderBackend
from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage
from versioned_zarr.engine.backend import Backend, StorageBackend
from versioned_zarr.engine.marker import MARKER, SHARED, layout_in
from versioned_zarr.engine.open_options import Location, Options
from versioned_zarr.errors import (
    InvalidInputError,
    InvalidUrlError,
    ReadOnlyError,
    StorageError,
)
from versioned_zarr.ipld.address.multiaddr import spelled_out
from versioned_zarr.urls import (
    User,
    check_characters,
    has_scheme,
    split_url,
    take_user,
    tidied,
    without_user,
)

_SHARES_BY_DEFAULT: Final[bool] = sys.platform == "win32"
"""Whether a new folder is shared: on Windows, where a file that is in use cannot be replaced."""
Made: TypeAlias = tuple[Backend, Options]
"""A backend and its options: those of the caller, and the user in its URL."""


Entry: TypeAlias = Callable[[str, Options], Made]
"""Returns the backend at a path or a URL of one scheme.

The keyword arguments of the backend are the options that it accepts; an error for any other option
lists them.
"""


def backend_at(url: Location, options: Options) -> Made:
    """The backend for a path, a URL or a store, whether or not there is a repository.

    Raises:
        InvalidUrlError: it is neither a path nor a URL with a supported scheme.
        InvalidInputError: the backend does not accept one of these options.
    """
    if is_store(url):
        return _object_store(store_url(url), {**options, "store": url})
    given: object = os.fspath(url)  # type: ignore[arg-type] # a TypeError says what it takes
    if not given or not isinstance(given, str):
        shown = repr(given) if not given else f"of {type(given).__name__}"
        raise InvalidUrlError(f"a repository must be given as a path or a URL, not {shown}", url="")
    text = given
    check_characters(text)
    is_path = os.path.exists(text)
    if not is_path and isinstance(url, str):
        text = os.path.expanduser(text)
        is_path = os.path.exists(text)
    if not is_path:
        text = spelled_out(tidied(text) if isinstance(url, str) else text)
    scheme = split_url(text).scheme if has_scheme(text) and not is_path else ""
    entry = _ENTRIES.get(scheme)
    if entry is None:
        raise _unknown(scheme, without_user(text))
    return entry(text, options)


def _folder(path: str, options: Options) -> Made:
    """A folder, whose marker says whether it is shared; a new one is if the caller says so."""
    wanted = options.get("shared")
    others = _without_shared(options)
    _check_none(path, others, "no options but shared")
    found = layout_at(path)
    if found is not None and wanted is not None and wanted != (found == SHARED):
        is_now = "shared" if found == SHARED else "not shared"
        raise InvalidInputError(
            f"{path!r} is a repository in a folder that is {is_now}, which cannot be changed; open "
            f"it without shared={wanted}, or copy it with vz.clone({path!r}, …, shared={wanted})"
        )
    is_shared = found == SHARED if found is not None else wanted
    if _SHARES_BY_DEFAULT if is_shared is None else is_shared:
        return SharedFolderBackend(path), others
    return StorageBackend(LocalStorage(path)), others


def layout_at(path: str) -> str | None:
    """The layout of the repository in a folder; None if there is none that can be read."""
    try:
        return layout_in(bytes(SharedFolderStorage(path, path).read(MARKER)))
    except (OSError, StorageError, ReadOnlyError):
        return None


def _file(url: str, options: Options) -> Made:
    parts = split_url(url)
    if parts.netloc not in ("", "localhost"):
        raise InvalidUrlError(
            f"{url!r} names the host {parts.netloc!r}; a local path has three slashes: "
            "file:///path",
            url=url,
        )
    return _folder(unquote(parts.path), options)


def _memory(url: str, options: Options) -> Made:
    options = _not_shared(url, options)
    _check_none(url, options)
    name = url.partition(":")[2].lstrip("/")
    if not name:
        raise InvalidUrlError(f"{url!r} has no name; give it one, as in memory://scratch", url=url)
    return StorageBackend(MemoryStorage.named(name)), options


def _kubo(url: str, options: Options) -> Made:
    # The backend needs a package that most repositories do not need.
    from versioned_zarr.backends.kubo.kubo_backend import KuboBackend  # noqa: PLC0415

    bare, user = take_user(url)
    options = options if user is None else _with_user(options, user)
    return _reached(KuboBackend, bare, options)


def _lakefs(url: str, options: Options) -> Made:
    from versioned_zarr.backends.lakefs.lakefs_backend import LakefsBackend  # noqa: PLC0415

    _check_no_user(url)
    return _reached(LakefsBackend, url, options)


def _object_store(url: str, options: Options) -> Made:
    _check_no_user(url)
    try:
        from versioned_zarr.backends.objectstore.obstore_backend import (  # noqa: PLC0415
            ObstoreBackend,
        )
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"{url!r} needs the package {error.name}: pip install 'versioned-zarr[objectstore]'"
        ) from error
    return _reached(ObstoreBackend, url, options)


def _without_shared(options: Options) -> Options:
    return cast("Options", {key: value for key, value in options.items() if key != "shared"})


def _not_shared(url: str, options: Options) -> Options:
    """The options without `shared`, which the caller must not ask for.

    Raises:
        InvalidInputError: they do.
    """
    if options.get("shared"):
        raise InvalidInputError(
            f"{without_user(url)!r} is not a folder, and shared=True is for folders that several "
            "machines mount; a server is shared as it is, and memory never: leave it out"
        )
    return _without_shared(options)


def _reached(backend: Callable[..., Backend], url: str, options: Options) -> Made:
    """Create a backend with options, each as a keyword argument of that name.

    Raises:
        InvalidInputError: the backend does not accept an option.
    """
    options = _not_shared(url, options)
    if options:
        keywords = signature(backend).parameters.values()
        known = [each.name for each in keywords if each.kind is each.KEYWORD_ONLY]
        others = sorted(options.keys() - known)
        if others:
            raise InvalidInputError(
                f"{url!r} does not accept {', '.join(others)}; it accepts {', '.join(known)}"
            )
    return backend(url, **options), options


def _check_none(url: str, options: Options, accepted: str = "no options") -> None:
    """Make sure that there are no options.

    Raises:
        InvalidInputError: there are some.
    """
    if options:
        advice = next((_INSTEAD[name] for name in options if name in _INSTEAD), "")
        raise InvalidInputError(
            f"{url!r} does not accept {', '.join(options)}; it accepts {accepted}{advice}"
        )


_VERSION: Final = "; what names a version is 'ref' in xarray, and 'checkout' of the repository"
_INSTEAD: Final = {
    **dict.fromkeys(("branch", "tag", "commit", "version", "snapshot_id"), _VERSION),
    **dict.fromkeys(("mode", "read_only"), "; snapshots are read-only, and sessions write"),
    **dict.fromkeys(("exist_ok", "if_exists"), "; 'open_or_create' opens what exists"),
    "overwrite": "; a repository is never overwritten: delete its folder, or choose another",
}
"""What to do instead of passing an option that people guess."""


_ENTRIES: Mapping[str, Entry] = {
    "": _folder,
    "file": _file,
    "memory": _memory,
    "ipfs+http": _kubo,
    "ipfs+https": _kubo,
    "lakefs": _lakefs,
    "s3": _object_store,
    "gs": _object_store,
    "az": _object_store,
    "abfs": _object_store,
    "obstore": _object_store,
    "http": _object_store,
    "https": _object_store,
}
_KNOWN = "a path, file://, memory://, ipfs+http://, lakefs://, s3://, gs://, az://, abfs:// and http(s)://"


def _unknown(scheme: str, shown: str) -> InvalidUrlError:
    """The error for a URL with an unknown scheme."""
    if scheme in ("ipfs", "ipns"):
        return InvalidUrlError(
            f"{shown!r} is a snapshot, not a repository; open it with vz.open_snapshot",
            url=shown,
        )
    return InvalidUrlError(
        f"unknown scheme {scheme!r} in {shown!r}; supported: {_KNOWN}",
        url=shown,
    )


def _with_user(options: Options, user: User) -> Options:
    """Options with the user of a URL, unless they already contain credentials."""
    headers = options.get("headers") or {}
    if "token" in options or names_one(headers):
        return options
    return {**options, "headers": {**headers, **basic(user)}}


def _check_no_user(url: str) -> None:
    """Make sure that a URL contains no credentials if its backend does not use them.

    Raises:
        InvalidUrlError: it contains some; does not show them.
    """
    shown = without_user(url)
    if shown != url:
        raise InvalidUrlError(
            f"credentials do not belong in the URL {shown!r}; pass access_key_id= and "
            "secret_access_key=",
            url=shown,
        )
