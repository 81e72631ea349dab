-- What a publication ends in: `release`, or `push`, whose paths join the project's cache and nothing more. A push has no
-- version, no stage and no source.
ALTER TABLE publication ADD COLUMN kind TEXT NOT NULL DEFAULT 'release';
