"""Stored sessions: sessions whose uncommitted writes are in the repository, for all machines."""
