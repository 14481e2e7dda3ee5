"""The lakeFS API: control calls by lakefs-sdk, objects by its transport."""
