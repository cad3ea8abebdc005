"""Unit tests and properties: pure modules as specifications, and thin shells with real processes."""
