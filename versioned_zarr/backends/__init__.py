"""Backends: the places where repositories live, as memory, a folder, Kubo, gateways, lakeFS."""
