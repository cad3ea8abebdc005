"""Child processes: what they may see, how they are held, and how none is left over. Knows no provider."""
