-- Which identities of a CI may publish to a project: issuer, audience, and for each claim the patterns that it may have.
-- `project` is NULL while the project does not exist yet; its creation fills it. A rule goes with its project, so that
-- whoever makes another of that name inherits no trust.
CREATE TABLE trust_rule (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
    project TEXT REFERENCES project (id) ON DELETE CASCADE,
    project_name TEXT NOT NULL,
    issuer TEXT NOT NULL,
    audience TEXT NOT NULL,
    claims TEXT NOT NULL,
    created_by TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX trust_rule_project ON trust_rule (organization, lower(project_name));
CREATE INDEX trust_rule_issuer ON trust_rule (issuer);

-- What a session token (a row of `token` of kind `session`) may publish, and who it was given to.
CREATE TABLE publication_session (
    token TEXT PRIMARY KEY REFERENCES token (id) ON DELETE CASCADE,
    rule TEXT NOT NULL,
    project_name TEXT NOT NULL,
    version TEXT NOT NULL,
    rolling BOOLEAN NOT NULL,
    stage TEXT,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL
);
CREATE INDEX publication_session_rule ON publication_session (rule);

-- The publications that a session opened or joined: the only ones that it may touch.
CREATE TABLE session_publication (
    token TEXT NOT NULL REFERENCES token (id) ON DELETE CASCADE,
    publication TEXT NOT NULL REFERENCES publication (id) ON DELETE CASCADE,
    PRIMARY KEY (token, publication)
);

-- Identities that were exchanged, by the digest of issuer and `jti`: none is taken twice.
CREATE TABLE identity_use (
    digest TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX identity_use_expiry ON identity_use (expires_at);
