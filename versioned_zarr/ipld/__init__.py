"""IPLD: CIDs, block codecs and UnixFS; pure functions, no I/O."""

from versioned_zarr.ipld.cid import Buffer, Cid, HashFunction, hash_function
from versioned_zarr.ipld.dag_pb import Link

__all__ = ["Buffer", "Cid", "HashFunction", "Link", "hash_function"]
