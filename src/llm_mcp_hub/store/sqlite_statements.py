"""What `sqlite.py` tells SQLite: the steps that make its tables, and the statements. Knows no connection."""

from __future__ import annotations

STEPS: tuple[tuple[str, ...], ...] = (
    (
        # Values stand last: what comes behind 5 MB is found only by walking through them.
        "CREATE TABLE records (key BLOB PRIMARY KEY, ends REAL NOT NULL, listed BLOB, place INTEGER,"
        " value BLOB NOT NULL)",
        "CREATE INDEX records_listed ON records (listed, place) WHERE listed IS NOT NULL",
        "CREATE INDEX records_ends ON records (ends)",
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, ends REAL NOT NULL,"
        " length INTEGER NOT NULL)",
        "CREATE INDEX logs_ends ON logs (ends)",
        "CREATE TABLE entries (log INTEGER NOT NULL REFERENCES logs (id) ON DELETE CASCADE, number INTEGER NOT NULL,"
        " value BLOB NOT NULL, PRIMARY KEY (log, number))",
        "CREATE TABLE leases (lease BLOB NOT NULL, holder BLOB NOT NULL, ends REAL NOT NULL, since INTEGER NOT NULL,"
        " PRIMARY KEY (lease, holder)) WITHOUT ROWID",
    ),
)
"""What leads from each schema version to the next; `PRAGMA user_version` says how many have been taken.

A hub that has the file open does not look again. A step after which older hubs must not write renames a table: their
next statement fails, they open the file anew, and are told.
"""

# A statement that writes takes the write lock before it reads, so each of these is a transaction by itself.
PUT = """
INSERT INTO records (key, ends, listed, place, value)
VALUES (:key, :now + :ttl, :listed,
        iif(:listed IS NULL, NULL, (SELECT coalesce(max(place), 0) + 1 FROM records WHERE listed = :listed)), :value)
ON CONFLICT (key) DO UPDATE SET
    place = iif(ends > :now AND (:listed IS NULL OR :listed IS listed), place, excluded.place),
    listed = iif(ends > :now, coalesce(:listed, listed), :listed),
    ends = excluded.ends, value = excluded.value
"""
ADD = """
INSERT INTO records (key, ends, value) VALUES (:key, :now + :ttl, :value)
ON CONFLICT (key) DO UPDATE SET ends = excluded.ends, listed = NULL, place = NULL, value = excluded.value
WHERE ends <= :now
"""
TAKE = """
INSERT INTO leases (lease, holder, ends, since)
SELECT :lease, :holder, :now + :ttl, (SELECT coalesce(max(since), 0) + 1 FROM leases WHERE lease = :lease)
WHERE (SELECT count(*) FROM leases WHERE lease = :lease AND ends > :now AND holder != :holder) < :limit
   OR EXISTS (SELECT 1 FROM leases WHERE lease = :lease AND ends > :now AND holder = :holder)
ON CONFLICT (lease, holder) DO UPDATE SET since = iif(ends > :now, since, excluded.since), ends = excluded.ends
"""
RENEW = """
INSERT INTO leases (lease, holder, ends, since)
VALUES (:lease, :holder, :now + :ttl, (SELECT coalesce(max(since), 0) + 1 FROM leases WHERE lease = :lease))
ON CONFLICT (lease, holder) DO UPDATE SET ends = excluded.ends
"""
LAPSE = """
UPDATE leases SET ends = :now WHERE lease = :lease AND ends > :now AND substr(holder, 1, length(:of)) = :of
"""
ENTRIES = """
SELECT value FROM entries WHERE log = (SELECT id FROM logs WHERE key = :key AND ends > :now) ORDER BY number
"""
TIDY = (
    "DELETE FROM records WHERE key IN (SELECT key FROM records WHERE ends <= :now LIMIT :rows)",
    "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE ends <= :now LIMIT :rows)",
    "DELETE FROM leases WHERE ends <= :now - :kept",
)
