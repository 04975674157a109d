"""The local page: search, look, label, adapt, take away; and the same over HTTP and MCP."""
