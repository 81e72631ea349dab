-- Organizations and what belongs to them. Names are unique without regard to case; their spelling is kept.

CREATE TABLE organization (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX organization_name ON organization (lower(name));

-- A person is an issuer and a subject, never an e-mail address. Issuer `local` is this hub itself.
CREATE TABLE person (
    id TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    superuser BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX person_subject ON person (issuer, subject);

CREATE TABLE member (
    organization TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
    person TEXT NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (organization, person)
);

-- Keys that sign paths and statements of an organization. The newest one that is not retired signs first; all that are not
-- retired sign, so that hosts can move from one to the next. `secret` is NULL where the publisher holds the key.
CREATE TABLE signing_key (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    public BYTEA NOT NULL,
    secret BYTEA,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX signing_key_name ON signing_key (organization, name);

-- Keys under which closure tokens are made and checked; shared by all processes of this hub.
CREATE TABLE token_key (
    id BIGINT PRIMARY KEY,
    secret BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);

CREATE TABLE project (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    visibility TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX project_name ON project (organization, lower(name));

-- A token is kept as the SHA-256 of its text only.
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    hash BYTEA NOT NULL,
    organization TEXT REFERENCES organization (id) ON DELETE CASCADE,
    person TEXT REFERENCES person (id) ON DELETE CASCADE,
    project TEXT REFERENCES project (id) ON DELETE CASCADE,
    requirement TEXT,
    attribute TEXT,
    minimum_version TEXT,
    description TEXT NOT NULL,
    created_by TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX token_hash ON token (hash);
CREATE INDEX token_organization ON token (organization, created_at);

-- What ends closure tokens before their hour: `token:<id>` or `release:<manifest>`. Processes read it from the last number on.
CREATE TABLE revocation (
    number INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE upstream (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
    url TEXT NOT NULL,
    public_keys TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX upstream_url ON upstream (organization, url);
