"""Stored sessions: one session of many processes on many machines, in the repository."""
