"""HTTP transport: connections, codings, deadlines and credentials for every backend on a server."""
