"""Branches of a lakeFS repository, read with plain zarr over S3 and with this package.

Needs `obstore` and a lakeFS server, given by the variables of lakectl: LAKECTL_SERVER_ENDPOINT_URL,
LAKECTL_CREDENTIALS_ACCESS_KEY_ID, LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import os
import uuid

import numpy as np
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

import versioned_zarr as vz

name = f"example-{uuid.uuid4().hex[:12]}"
repo = vz.create(f"lakefs://{name}", storage_namespace=os.environ.get("LAKEFS_NAMESPACE"))

# One array on main; on dev, one element of it differs.
with repo.session("main", message="A 4 x 4 array") as session:
    array = zarr.create_array(
        session.store, name="example", shape=(4, 4), chunks=(2, 2), dtype="i4"
    )
    array[:] = np.arange(16).reshape(4, 4)
repo.branches.create("dev", at="main")
with repo.session("dev", message="Correct [2][2]") as session:
    zarr.open_array(session.store, path="example")[2, 2] = -1


def over_s3(branch: str) -> zarr.Array:
    """The array as S3 clients read it: lakeFS shows a branch as a folder in a bucket."""
    store = S3Store(
        name,
        prefix=branch,
        endpoint=os.environ["LAKECTL_SERVER_ENDPOINT_URL"],
        access_key_id=os.environ["LAKECTL_CREDENTIALS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return zarr.open_array(ObjectStore(store, read_only=True), path="example", mode="r")


for branch in ("main", "dev"):
    there = over_s3(branch)
    here = zarr.open_array(repo.checkout(branch).store, path="example", mode="r")
    assert np.array_equal(there[:], here[:])
    print(f"{branch}: [2][2] is {there[2, 2]}, and the tree is {repo.checkout(branch).cid}")
assert over_s3("main")[2, 2] != over_s3("dev")[2, 2]

# S3 cannot tell which chunks differ, or merge into main as one lakeFS commit.
print(repo.diff("main", "dev"))
repo.merge("dev", into="main")
assert over_s3("main")[2, 2] == -1
print(repo.log())
