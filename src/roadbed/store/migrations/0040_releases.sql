-- Immutable releases and the aliases that point to them (releases/aliases.py).

CREATE TABLE release (
    digest   text PRIMARY KEY,             -- sha256 of manifest, hex
    app      text NOT NULL,
    manifest bytea NOT NULL,               -- canonical JSON, exactly the bytes that were hashed
    created  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX release_app ON release (app, created DESC);

CREATE TABLE alias_counter (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    value bigint NOT NULL
);
INSERT INTO alias_counter (value) VALUES (0);

CREATE TABLE alias (
    app        text NOT NULL,
    name       text NOT NULL,              -- live | candidate
    digest     text NOT NULL REFERENCES release (digest),
    generation bigint NOT NULL,
    held       boolean NOT NULL DEFAULT false,  -- a rollback holds `live` until somebody promotes
    PRIMARY KEY (app, name)
);

CREATE TABLE alias_history (
    generation bigint NOT NULL,
    app        text NOT NULL,
    name       text NOT NULL,
    digest     text,                       -- NULL: the app left the workspace
    previous   text,
    action     text NOT NULL,              -- save | promote | rollback | retire
    actor      text NOT NULL,
    reason     text NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, app, name)
);
CREATE INDEX alias_history_app ON alias_history (app, generation DESC);
