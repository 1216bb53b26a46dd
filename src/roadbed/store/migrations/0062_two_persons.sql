-- compatible_from: 0061
-- What waits for a second person (server/second_person.py), and who is behind a key (guard/duties.py).
ALTER TABLE api_key
    ADD COLUMN made_by text[] NOT NULL DEFAULT '{}',    -- everyone who has seen its value: makers, and who rotated it
    ADD COLUMN acts_as text;                            -- the key whose holder this one stands for

CREATE TABLE two_person_duty (
    name  text PRIMARY KEY,                -- promotions | approvals | models | persons_only
    since timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE two_person_request (
    id              text PRIMARY KEY,
    duty            text NOT NULL,         -- promotions | models | duties
    subject         text NOT NULL,         -- the app, the model, or the duty that is to be dropped
    digest          text NOT NULL,         -- of exactly that which was asked for
    asker           text,                  -- NULL: a saved change, whose author is not known
    asker_name      text NOT NULL DEFAULT '',
    asker_names     text[] NOT NULL DEFAULT '{}',
    asker_lineage   text[] NOT NULL DEFAULT '{}',
    asker_is_person boolean NOT NULL DEFAULT false,
    said_by         text NOT NULL DEFAULT '',
    reason          text NOT NULL DEFAULT '',
    asked           timestamptz NOT NULL DEFAULT now(),
    expires         timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'waiting'
                    CHECK (state IN ('waiting', 'approved', 'declined', 'replaced')),
    decider         text,
    decider_name    text NOT NULL DEFAULT '',
    decided         timestamptz,
    note            text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX two_person_request_waiting ON two_person_request (duty, subject) WHERE state = 'waiting';
CREATE INDEX two_person_request_asked ON two_person_request (asked DESC);
