-- Where a client that was allowed to stage a release puts its source: an address with a secret, of which this is the SHA-256. It
-- takes one file of this size and hash, once. `staged_by` is the credential that staged, for the audit log.
CREATE TABLE upload_address (
    hash BYTEA PRIMARY KEY,
    publication TEXT NOT NULL REFERENCES publication (id) ON DELETE CASCADE,
    size BIGINT NOT NULL,
    digest TEXT NOT NULL,
    staged_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX upload_address_publication ON upload_address (publication);

-- What a client of another dialect said of a release, whole and to the letter. It goes over to the release when that becomes visible.
CREATE TABLE publication_document (
    publication TEXT PRIMARY KEY REFERENCES publication (id) ON DELETE CASCADE,
    document TEXT NOT NULL
);
CREATE TABLE release_document (
    release TEXT PRIMARY KEY REFERENCES release (id) ON DELETE CASCADE,
    document TEXT NOT NULL
);

-- Published for somebody else, by whoever keeps a mirror.
ALTER TABLE release ADD COLUMN mirrored BOOLEAN NOT NULL DEFAULT FALSE;

-- Made for a first release that has not come yet; goes again if it does not come.
ALTER TABLE project ADD COLUMN provisional BOOLEAN NOT NULL DEFAULT FALSE;
