-- A release is visible from the moment its row is there: the row is written last, in one transaction with all that it needs.
CREATE TABLE release (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    sort BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    pre BOOLEAN NOT NULL,
    rolling BOOLEAN NOT NULL,
    content TEXT NOT NULL,
    source TEXT NOT NULL,
    source_size BIGINT NOT NULL,
    description TEXT,
    labels TEXT NOT NULL,
    license TEXT,
    repository TEXT,
    subdirectory TEXT,
    revision TEXT,
    commit_count BIGINT,
    readme TEXT,
    published_by TEXT,
    published_at BIGINT NOT NULL,
    yanked_at BIGINT,
    yank_reason TEXT
);
CREATE UNIQUE INDEX release_version ON release (project, sort);
CREATE INDEX release_resolution ON release (project, sort DESC) WHERE yanked_at IS NULL AND NOT pre;

-- The manifests that exist. The bytes are the object `manifest/<hex>.json`.
CREATE TABLE manifest (
    digest TEXT NOT NULL,
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    root TEXT NOT NULL,
    path_count BIGINT NOT NULL,
    nar_size BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, digest)
);
CREATE INDEX manifest_digest ON manifest (digest);

-- `manifest` is NULL while an output is recorded but not available.
CREATE TABLE output (
    release TEXT NOT NULL REFERENCES release (id) ON DELETE CASCADE,
    attribute TEXT NOT NULL,
    store_path TEXT NOT NULL,
    system TEXT,
    manifest TEXT,
    statement TEXT,
    statement_signatures TEXT,
    PRIMARY KEY (release, attribute)
);

-- The bytes that the hub holds, by the hash of the NAR; one file whoever pushed it.
CREATE TABLE nar (
    nar_hash TEXT PRIMARY KEY,
    nar_size BIGINT NOT NULL,
    file_hash TEXT NOT NULL,
    file_size BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- What a path is, said for each project. `upstream` is set where the path is pinned: its narinfo as the upstream serves it.
CREATE TABLE path_info (
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
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
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, hash_part)
);
CREATE INDEX path_info_hash_part ON path_info (hash_part);
CREATE INDEX path_info_nar ON path_info (nar_hash);

-- One content for a path in an organization, whichever of its projects hold it.
CREATE TABLE organization_path (
    organization TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
    hash_part TEXT NOT NULL,
    nar_hash TEXT NOT NULL,
    PRIMARY KEY (organization, hash_part)
);

-- A NAR that a stock client has put and not yet described: the narinfo that names it follows.
CREATE TABLE pushed_nar (
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    file_name TEXT NOT NULL,
    nar_hash TEXT NOT NULL,
    nar_size BIGINT NOT NULL,
    file_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, file_name)
);

CREATE TABLE build_log (
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    drv_name TEXT NOT NULL,
    object TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, drv_name)
);
