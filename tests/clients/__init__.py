"""The hub under the clients that people use: the official suites, other SDKs, the vendors' own programs."""
