-- events that wait to be folded into a repository
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    buffer TEXT NOT NULL,
    key TEXT NOT NULL,
    -- nothing once it was dealt with: only the key is remembered
    body BLOB,
    -- in milliseconds since 1970
    received INTEGER NOT NULL,
    -- 1: in the batch that was given last
    held INTEGER NOT NULL DEFAULT 0,
    -- from when on the key is known no more, in milliseconds since 1970
    forgotten INTEGER,
    UNIQUE (buffer, key)
) STRICT;
CREATE INDEX events_waiting ON events (buffer, held, id) WHERE body IS NOT NULL;
CREATE INDEX events_by_end ON events (forgotten) WHERE forgotten IS NOT NULL;

CREATE TABLE event_buffers (
    buffer TEXT PRIMARY KEY,
    received INTEGER NOT NULL DEFAULT 0,
    repeated INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    -- when the last one was taken, in milliseconds since 1970
    last INTEGER
) STRICT;
