-- Build traces: which path an output of a content-addressed derivation became. `drv` is a hash (`sha256:<hex>`, up to Nix 2.34) or
-- the base name of a derivation. `signatures` are those that came along; the hub's own are made for each reader.
CREATE TABLE build_trace (
    project TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    drv TEXT NOT NULL,
    output TEXT NOT NULL,
    out_path TEXT NOT NULL,
    dependents TEXT NOT NULL,
    signatures TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, drv, output)
);
CREATE INDEX build_trace_output ON build_trace (drv, output);
CREATE INDEX build_log_drv ON build_log (drv_name);

-- Which NARs hold the debug information of a build id.
CREATE TABLE debug_file (
    build_id TEXT NOT NULL,
    nar_hash TEXT NOT NULL REFERENCES nar (nar_hash) ON DELETE CASCADE,
    PRIMARY KEY (build_id, nar_hash)
);
CREATE INDEX debug_file_nar ON debug_file (nar_hash);
