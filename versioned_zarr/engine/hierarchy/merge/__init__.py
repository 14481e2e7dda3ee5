"""The three-way merge of Zarr hierarchies: nodes, JSON, chunks, and conflicts."""
