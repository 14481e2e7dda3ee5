"""What a folder asks of the operating system, whichever that is."""

try:
    from versioned_zarr.backends.local.posix import (
        append,
        lock,
        map_file,
        open_file,
        part_of,
        read_at,
        rename,
        replace,
        reserve,
        sync_data,
        sync_names,
        write_at,
        write_parts_at,
    )
except ImportError:  # without fcntl
    try:
        from versioned_zarr.backends.local.windows import (
            append,
            lock,
            map_file,
            open_file,
            part_of,
            read_at,
            rename,
            replace,
            reserve,
            sync_data,
            sync_names,
            write_at,
            write_parts_at,
        )
    except ImportError:  # without msvcrt
        from versioned_zarr.backends.local.plain import (
            append,
            lock,
            map_file,
            open_file,
            part_of,
            read_at,
            rename,
            replace,
            reserve,
            sync_data,
            sync_names,
            write_at,
            write_parts_at,
        )

__all__ = [
    "append",
    "lock",
    "map_file",
    "open_file",
    "part_of",
    "read_at",
    "rename",
    "replace",
    "reserve",
    "sync_data",
    "sync_names",
    "write_at",
    "write_parts_at",
]
