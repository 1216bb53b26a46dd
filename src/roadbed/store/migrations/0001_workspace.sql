-- The identity of the workspace that owns this schema. `schema_migration` itself is made by the migrator.
CREATE TABLE workspace (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id text NOT NULL CHECK (id <> ''),
    created_at timestamptz NOT NULL DEFAULT now()
);
