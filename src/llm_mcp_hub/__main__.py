"""`python -m llm_mcp_hub`."""

import sys

from llm_mcp_hub.cli import main

sys.exit(main())
