"""Tests of the web: against a real server on a port of its own."""
