-- Releases that were deleted with their project, so that a lock which names one is told what became of it. `visibility` is
-- the project's when it went: whoever could not see the release isn't told that it was there.
CREATE TABLE deleted_release (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    project_name TEXT NOT NULL,
    organization TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
    visibility TEXT NOT NULL,
    version TEXT NOT NULL,
    project_created_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL
);
