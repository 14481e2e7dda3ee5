"""Maintenance: garbage collection, repack, fsck and statistics."""
