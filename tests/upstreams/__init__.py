"""Loopback stand-ins of the two providers: real servers that the real CLIs talk to."""
