-- Persons whose data was erased: what must not come back, and the receipts (server/erasure.py).

CREATE TABLE erased_value (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),  -- keyed, of the value's folded words
    words  integer NOT NULL,                                     -- how many words it has
    at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE erasure (
    id      text PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL,                 -- a pseudonym
    receipt text NOT NULL                  -- signed JSON; the subject only as a salted digest
);
