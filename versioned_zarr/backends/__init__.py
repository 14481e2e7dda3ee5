"""The places where repositories live: memory and a folder of the local file system."""
