-- Values of keys that stood in an address (guard/identity.py). They open nothing again, under whatever id: the first
-- admin key's value comes from the environment, and would come back with the next start.

CREATE TABLE exposed_key (
    digest bytea PRIMARY KEY,              -- SHA-256 of the value
    key_id text NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
