CREATE TABLE items (
    partition_key TEXT NOT NULL,
    sort_key TEXT NOT NULL,
    -- JSON
    body TEXT NOT NULL,
    -- 0: counters
    version INTEGER NOT NULL,
    index_partition TEXT,
    index_sort TEXT,
    -- milliseconds since 1970
    expires INTEGER,
    PRIMARY KEY (partition_key, sort_key)
) STRICT;
CREATE INDEX items_by_index ON items (index_partition, index_sort, partition_key, sort_key)
    WHERE index_partition IS NOT NULL;
CREATE INDEX items_by_expiry ON items (expires) WHERE expires IS NOT NULL;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    -- from when on it can be received, in milliseconds since 1970
    visible INTEGER NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    -- counts the deliveries and, other than those, never begins anew: receipts name it
    claim INTEGER NOT NULL DEFAULT 0,
    -- 1: in the dead-letter queue
    dead INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX messages_in_line ON messages (queue, dead, visible, id);

CREATE TABLE executions (
    workflow TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON: the input, what the plan gave, and what failed for good
    input TEXT NOT NULL,
    plan TEXT,
    failure TEXT,
    -- why it is to be stopped, once somebody asked for that
    stop_reason TEXT,
    -- nothing while steps are left to do
    ended TEXT CHECK (ended IN ('succeeded', 'failed', 'stopped')),
    PRIMARY KEY (workflow, name)
) STRICT;
CREATE INDEX executions_to_run ON executions (workflow, name) WHERE ended IS NULL;

CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    -- JSON
    cron TEXT NOT NULL,
    payload TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    -- the next time it fires, in milliseconds since 1970; nothing when it never does
    due INTEGER
) STRICT;
CREATE INDEX schedules_by_due ON schedules (due) WHERE due IS NOT NULL;
