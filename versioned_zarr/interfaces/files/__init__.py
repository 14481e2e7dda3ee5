"""Plain files: import of Zarr folders and URLs, export to folders, and the CID of a folder."""
