"""HTTP transport: connections, codings, deadlines and credentials for all remote backends."""
