-- What changed and what was refused: one chain for each organization, and one ('') for what belongs to none. `entry` is the
-- text that `hash` is taken of; it names the hash of the entry before it. Rows are only ever added, and outlive what they tell of.
CREATE TABLE audit_entry (
    organization TEXT NOT NULL,
    number BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    entry TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (organization, number)
);
CREATE INDEX audit_entry_time ON audit_entry (organization, recorded_at);

-- The last entry of each chain. Whoever adds one holds this row until the transaction ends.
CREATE TABLE audit_chain (
    organization TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    hash TEXT NOT NULL
);

-- Where a token was used last; the host is what the client calls itself. `replaced_by` is set once it was rotated.
ALTER TABLE token ADD COLUMN last_used_address TEXT;
ALTER TABLE token ADD COLUMN last_used_host TEXT;
ALTER TABLE token ADD COLUMN replaced_by TEXT;

-- How often something was asked for within a minute, over all processes. Only what comes near its limit is here.
CREATE TABLE rate_window (
    subject TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (subject, started_at)
);
