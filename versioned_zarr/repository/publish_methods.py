"""Public names of a repository on an IPFS node: publishing and resolving IPNS names."""

from __future__ import annotations

from versioned_zarr.engine.context import Publisher, RepositoryContext
from versioned_zarr.engine.ref_text import Ref, ref_text
from versioned_zarr.engine.revisions import resolve
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.urls import split_url


class PublishMethods:
    """The methods of `Repository` that publish and resolve names."""

    url: str
    _stores: RepositoryContext

    def publish(self, ref: Ref = "main", *, key: str | None = None) -> str:
        """Publish the snapshot that a ref currently names under an IPNS name.

        The node signs the record, even offline. To move the name, publish again with the same key.

        Args:
            ref: see `checkout`.
            key: the node's signing key, created if it does not exist; by default, one for this
                repository and ref.

        Returns:
            The name, such as `ipns://k51…`.

        Raises:
            InvalidInputError: the repository is not on an IPFS node.
        """
        ref = ref_text(ref)
        tree = resolve(self._stores, ref).tree
        # Only a ref with a time contains a colon, so these names are unique.
        own = f"versioned-zarr:{split_url(self.url).path.strip('/')}:{ref}"
        return self._publisher().publish(tree, own if key is None else key)

    def resolve(self, name: str) -> Snapshot:
        """Return the snapshot to which an IPNS name resolves.

        Raises:
            RefNotFoundError: the node cannot resolve the name.
            InvalidInputError: the repository is not on an IPFS node.
        """
        tree, path = self._publisher().resolve(name)
        return Snapshot(self, tree, None).path(path)

    def _publisher(self) -> Publisher:
        if self._stores.publisher is None:
            raise InvalidInputError(
                f"{self.url!r} is not on an IPFS node; only an IPFS node can publish: push it "
                "to one"
            )
        return self._stores.publisher
