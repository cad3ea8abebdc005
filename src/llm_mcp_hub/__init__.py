"""One MCP server that puts questions to Claude and to Gemini with the owner's subscriptions."""
