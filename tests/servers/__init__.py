"""Fixtures that run real servers and their commands, built by tools/build_server.py."""
