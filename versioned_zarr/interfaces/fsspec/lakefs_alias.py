"""The lakefs alias: lakefs-spec's file system if it is installed, otherwise an error that says so.

`vzarr://main@/air::lakefs://repo` needs fsspec to know the scheme, not a file system behind it.
"""

from __future__ import annotations

try:
    from lakefs_spec import LakeFSFileSystem  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from fsspec import AbstractFileSystem

    class LakeFSFileSystem(AbstractFileSystem):  # type: ignore[no-redef,misc]  # fsspec has no types
        """A placeholder for a lakeFS repository after `::`; it cannot read anything itself."""

        protocol = "lakefs"

        def __init__(self, *_: object, **__: object) -> None:
            raise ImportError(
                "lakefs:// alone belongs to lakefs-spec: pip install lakefs-spec; or open a branch "
                "of a repository as vzarr://main@/PATH::lakefs://REPO"
            )


__all__ = ["LakeFSFileSystem"]
