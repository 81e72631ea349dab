-- The publications that an identity of a CI opened or joined, by the digest by which it is known again: the only ones
-- that it may touch, and those that it may finish for a while after it has expired.
CREATE TABLE identity_publication (
    use TEXT NOT NULL,
    publication TEXT NOT NULL REFERENCES publication (id) ON DELETE CASCADE,
    PRIMARY KEY (use, publication)
);
CREATE INDEX identity_publication_publication ON identity_publication (publication);
