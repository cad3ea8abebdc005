"""What is put before a prompt: files, a git diff, attachments. Knows nothing of MCP, of providers or of stores."""
