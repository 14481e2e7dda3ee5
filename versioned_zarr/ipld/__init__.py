"""Content addressing: CIDs, the codecs of blocks, and how UnixFS uses them; no input or output."""

from versioned_zarr.ipld.cid import Buffer, Cid, HashFunction, hash_function
from versioned_zarr.ipld.dag_pb import Link

__all__ = ["Buffer", "Cid", "HashFunction", "Link", "hash_function"]
