-- Two manifests of a project, the NARs of whose paths are made from one another: `places` and `bases` tell which path takes whose
-- place. `claimed_at` is renewed by the process that makes the deltas, so that another one goes on where it died.
CREATE TABLE delta_pair (
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    base TEXT NOT NULL,
    target TEXT NOT NULL,
    places TEXT NOT NULL,
    bases TEXT NOT NULL,
    claimed_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, base, target)
);

-- One delta of a pair: of the NARs at `places` against those at `bases`. `size` is NULL until it was made, 0 where it is not worth
-- having; else the bytes are the object `delta/<object>.zst`.
CREATE TABLE delta (
    project TEXT NOT NULL,
    base TEXT NOT NULL,
    target TEXT NOT NULL,
    number BIGINT NOT NULL,
    places TEXT NOT NULL,
    bases TEXT NOT NULL,
    renamed BOOLEAN NOT NULL,
    file_size BIGINT NOT NULL,
    object TEXT NOT NULL,
    size BIGINT,
    PRIMARY KEY (project, base, target, number),
    FOREIGN KEY (project, base, target) REFERENCES delta_pair (project, base, target) ON DELETE CASCADE
);
CREATE INDEX delta_object ON delta (object);
