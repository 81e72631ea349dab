-- What a host says it runs is looked up by its manifest.
CREATE INDEX output_manifest ON output (manifest);
