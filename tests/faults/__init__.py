"""The drill of faults: one table of what can go wrong around a hub, and a run that tries all of it. See `table.py`."""
