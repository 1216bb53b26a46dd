-- Who may call: keys, one-time sign-in tokens of the console, and the deployment's own random secrets.
-- compatible_from: 0001

CREATE TABLE api_key (
    id        text PRIMARY KEY,
    digest    bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),  -- SHA-256 of the whole key; the key is not stored
    name      text NOT NULL DEFAULT '',
    team      text NOT NULL,
    roles     text[] NOT NULL,
    apps      text[],                       -- NULL: all
    created   timestamptz NOT NULL DEFAULT now(),
    expires   timestamptz,
    revoked   timestamptz,
    last_used timestamptz
);

CREATE TABLE sign_in_token (
    digest  bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    key_id  text NOT NULL REFERENCES api_key (id),
    expires timestamptz NOT NULL,
    used    timestamptz
);
CREATE INDEX sign_in_token_expires ON sign_in_token (expires);

CREATE TABLE deployment_secret (
    name    text PRIMARY KEY,
    value   bytea NOT NULL CHECK (octet_length(value) >= 32),
    created timestamptz NOT NULL DEFAULT now()
);
