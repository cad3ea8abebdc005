"""Commands that are more than a call: one module each. `cli.py` has the words and the exit codes."""
