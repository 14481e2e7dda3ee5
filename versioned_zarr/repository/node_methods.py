"""Node methods: the methods of sessions that create, move, copy and restore nodes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from versioned_zarr import _hooks
from versioned_zarr.engine.ref_text import Ref, ref_text
from versioned_zarr.errors import KeyNotFoundError
from versioned_zarr.repository.node_moves import NodeSession, copy_path, move_path, restore_path

if TYPE_CHECKING:
    import zarr


class NodeMethods:
    """The methods of `Session` for groups and arrays; `session["air/t"]` opens one with zarr.

    To move, copy or restore a node costs the same however large it is: committed values are linked
    at their new place by their CIDs. No value is read, copied or sent, and a group of a million
    chunks moves as fast as an empty one. In a session that several processes share on a server, and
    on lakeFS, there is one record or request per key.
    """

    @property
    @abstractmethod
    def _session(self) -> NodeSession:
        """The object itself."""

    def __getitem__(self, path: str) -> zarr.Group | zarr.Array[Any]:
        if not self._session.list_dir(path.strip("/")):  # a TypeError if it is no path
            raise KeyNotFoundError(
                f"no group or array at {path!r} in session {self._session.id}", key=path
            )
        return _hooks.interfaces.open_node(self._session, path)

    __iter__: ClassVar[None] = None
    """Not iterable, although it has items; `keys` iterates over keys."""

    def create_hierarchy(
        self, template: Any, path: str = "", *, overwrite: bool = False
    ) -> zarr.Group | zarr.Array[Any]:
        """Create many groups and arrays at once, without values: 1000 in about 0.2 s.

        Nothing is created unless everything can be.

        Args:
            template: a dict of paths. Each value is a dict of the keywords of `zarr.create_array`,
                if it has a `shape`; or the `attributes` of a group; or metadata as in `zarr.json`,
                or as zarr has it (`array.metadata`). Groups may have `members`, by name. Or the
                path of a JSON or YAML file with such a dict. Or a Dataset or DataTree of xarray, of
                which indexes and other coordinates in memory are written, and data variables get
                their metadata only; this needs Dask.
            path: the group in which to create them; the root by default. Groups above nodes that do
                not exist yet are created.
            overwrite: replace arrays that exist, and attributes of groups that exist.

        Returns:
            The group at `path`, opened with zarr for reading and writing.

        Raises:
            AlreadyExistsError: a node exists already, and `overwrite` is false.
            InvalidInputError: the template is not valid; the error names the path in it.
            NotFoundError: there is no such file.
            MissingDependencyError: PyYAML or Dask is needed and not installed.

        Example:
            >>> import versioned_zarr as vz
            >>> session = vz.create("memory://hierarchies").session()
            >>> array = {"shape": (10, 4), "chunks": (5, 4), "dtype": "float32"}
            >>> root = session.create_hierarchy(
            ...     {"air": {"attributes": {"source": "model"}}, "air/t": array, "air/p": array}
            ... )
            >>> root["air/t"].shape, root["air"].attrs["source"]
            ((10, 4), 'model')
        """
        return _hooks.interfaces.create_hierarchy(
            self._session, template, path, overwrite=overwrite
        )

    def move(self, old: str, new: str) -> str:
        """Move or rename an array, a group or a key.

        If the process dies meanwhile, a resumed session may have the node at both paths. What
        another process writes to either path meanwhile is a conflict when the session is committed;
        threads of this process must not write there.

        A diff shows a moved node as one line, and `Repository.log` of its new path continues with
        the commits of the old one.

        Args:
            old: the path where it is.
            new: the path where it goes; if a group is there, it goes into this group.

        Returns:
            The path where it is now.

        Raises:
            KeyNotFoundError: nothing is at `old`.
            AlreadyExistsError: something other than a group is at `new`.
            InvalidInputError: `old` is the root or contains `new`, or zarr would not find a node at
                `new`, because no group would contain it.

        Example:
            >>> import versioned_zarr as vz, zarr
            >>> repo = vz.create("memory://moves")
            >>> with repo.session(message="data") as session:
            ...     air = zarr.create_array(session, name="air", shape=(4,), dtype="i4")
            >>> with repo.session(message="rename") as session:
            ...     session.move("air", "temperature")
            'temperature'
            >>> repo.diff("main").nodes_moved
            [('air', 'temperature')]
        """
        return move_path(self._session, old, new)

    def copy(self, old: str, new: str) -> str:
        """Copy an array, a group or a key; both share their stored values.

        Arguments, result and errors are those of `move`.

        Example:
            >>> import versioned_zarr as vz, zarr
            >>> session = vz.create("memory://copies").session()
            >>> air = zarr.create_array(session, name="air", shape=(4,), dtype="i4")
            >>> session.copy("air", "air_backup")
            'air_backup'
        """
        return copy_path(self._session, old, new)

    def restore(self, path: str, ref: Ref) -> None:
        """Let an array, a group or a key be again what it was in another version.

        What was added below the path since is gone. Values of a version that is not in the history
        of the session's branch are written again, which takes as long as reading them.

        Args:
            path: the path; "" for the root, which is everything.
            ref: the version, as in `Repository.checkout`.

        Raises:
            KeyNotFoundError: nothing is at the path in that version.
            RefNotFoundError: there is no such version.
            InvalidInputError: zarr would not find the node, because no group would contain it;
                restore that group.

        Example:
            >>> import versioned_zarr as vz
            >>> repo = vz.create("memory://restores")
            >>> for text in (b"good", b"bad"):
            ...     with repo.session(message=text.decode()) as session:
            ...         session.write("a", text)
            >>> with repo.session(message="as it was") as session:
            ...     session.restore("a", "main~1")
            >>> bytes(repo.checkout().read("a"))
            b'good'
        """
        restore_path(self._session, path, ref_text(ref))
