"""Backends: storage for repositories in memory, a folder, Kubo, gateways and lakeFS."""
