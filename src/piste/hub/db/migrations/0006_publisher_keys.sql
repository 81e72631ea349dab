-- The number that was reserved for the release of a publication whose statements its publisher signs.
ALTER TABLE publication ADD COLUMN sequence BIGINT;
