"""The MCP surface over stdio and HTTP: shapes in and out. Knows the hub, no provider and no child."""
