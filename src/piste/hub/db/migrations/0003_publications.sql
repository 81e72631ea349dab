-- A publication that is not finished. Nothing of it is visible to anybody but its publishers; it ends by itself.
-- `state`: open (filled by its publishers) → finished (its release is visible; stays until it expires, so that a
-- publisher that lost the answer may ask again).
CREATE TABLE publication (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    stage TEXT,
    version TEXT NOT NULL,
    rolling BOOLEAN NOT NULL,
    metadata TEXT NOT NULL,
    state TEXT NOT NULL,
    source TEXT,
    source_size BIGINT,
    readme TEXT,
    source_license TEXT,
    created_by TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX publication_stage ON publication (project, stage);
CREATE INDEX publication_expiry ON publication (expires_at);

-- `state`: missing (declared, its NAR is to come) → verified (uploaded and checked) | present (the publisher may read
-- it in the organization) | pinned (held by a trusted upstream).
CREATE TABLE staged_path (
    publication TEXT NOT NULL REFERENCES publication (id) ON DELETE CASCADE,
    hash_part TEXT NOT NULL,
    name TEXT NOT NULL,
    nar_hash TEXT NOT NULL,
    nar_size BIGINT NOT NULL,
    reference_names TEXT NOT NULL,
    deriver TEXT,
    content_address TEXT,
    signatures TEXT NOT NULL,
    upstream TEXT,
    upstream_narinfo TEXT,
    state TEXT NOT NULL,
    PRIMARY KEY (publication, hash_part)
);
CREATE INDEX staged_path_nar ON staged_path (nar_hash);

CREATE TABLE staged_output (
    publication TEXT NOT NULL REFERENCES publication (id) ON DELETE CASCADE,
    attribute TEXT NOT NULL,
    store_path TEXT NOT NULL,
    system TEXT,
    required BOOLEAN NOT NULL,
    PRIMARY KEY (publication, attribute)
);
