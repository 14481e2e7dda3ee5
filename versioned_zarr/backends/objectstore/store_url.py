"""The URL of a store of obstore, by which errors and the repository name it."""

from __future__ import annotations

from typing import Any, Final

_BUCKETS: Final = {
    "S3Store": ("s3", "bucket"),
    "GCSStore": ("gs", "bucket"),
    "AzureStore": ("az", "container_name"),
}


def is_store(given: object) -> bool:
    """Whether an object is a store of obstore; does not import obstore."""
    return any(base.__module__.partition(".")[0] == "obstore" for base in type(given).__mro__)


def store_url(store: Any) -> str:
    """The URL of a store: of its bucket and prefix, or `obstore://` with what tells it from others.

    Contains no credentials.

    Example:
        >>> from obstore.store import S3Store
        >>> store_url(S3Store("bucket", prefix="climate", region="x", skip_signature=True))
        's3://bucket/climate'
    """
    names = [base.__name__ for base in type(store).__mro__]
    known = next((name for name in names if name in _BUCKETS), None)
    if known is None:
        return f"obstore://{names[0].lower()}-{id(store):x}"
    scheme, option = _BUCKETS[known]
    prefix = str(store.prefix or "").strip("/")
    return f"{scheme}://{store.config[option]}/{prefix}".rstrip("/")
