-- compatible_from: 0065
-- What was last measured of a generation's HNSW index (room knowledge/): over how many rows, and which share of the truly
-- nearest it found. `generation.has_hnsw` says whether searches use it. A later file makes `generation`, hence no
-- reference.
CREATE TABLE vector_index (
    generation  integer PRIMARY KEY,
    rows        integer NOT NULL,
    recall      real NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT now()
);
