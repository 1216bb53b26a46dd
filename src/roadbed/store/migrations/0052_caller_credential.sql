-- What callers leave for sources that want to know who asks (guard/credentials.py). Values are sealed with a key of the
-- state folder, bound to owner and source: a copy of the database opens none of them.
-- compatible_from: 0040

CREATE TABLE caller_credential (
    owner   text NOT NULL,                 -- a person's id, or that of a key or token without a person
    source  text NOT NULL,
    sealed  bytea NOT NULL,
    name    text NOT NULL DEFAULT '',      -- the owner's name as it was then, by which an erasure finds the row
    actor   text NOT NULL,                 -- who stored it: the owner, or an admin
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, source)
);

CREATE TABLE sign_in_identity (            -- the ID token of a person's last sign-in, until it ends
    person  text PRIMARY KEY REFERENCES person (id) ON DELETE CASCADE,
    sealed  bytea NOT NULL,
    expires timestamptz NOT NULL
);
