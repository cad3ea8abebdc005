"""What MCP over streamable HTTP calls things: its path and its headers, as ASGI has them."""

PATH = "/mcp"
SESSION = b"mcp-session-id"
"""Of the older era: in the answer to `initialize`, and then in each request."""
VERSION = b"mcp-protocol-version"
