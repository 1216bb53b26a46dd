-- compatible_from: 0010
-- People: who signs in through an issuer, and whom a directory provisions (room guard/).
CREATE TABLE person (
    id            text PRIMARY KEY,                     -- u_...
    issuer        text,                                 -- with subject: who signs in; NULL until the first time
    subject       text,
    user_name     text NOT NULL,
    external_id   text,                                 -- the directory's own id
    display_name  text NOT NULL DEFAULT '',
    profile       jsonb NOT NULL DEFAULT '{}',          -- what else the directory says, as it says it
    team          text NOT NULL DEFAULT '',             -- by the last sign-in's claims
    claimed       text[] NOT NULL DEFAULT '{}',         -- groups by the last sign-in's claims
    active        boolean NOT NULL DEFAULT true,
    provisioned   boolean NOT NULL DEFAULT false,       -- by a directory
    created       timestamptz NOT NULL DEFAULT now(),
    changed       timestamptz NOT NULL DEFAULT now(),
    signed_in     timestamptz,
    sessions_from timestamptz,                          -- sessions begun before are over
    UNIQUE (issuer, subject)
);
CREATE UNIQUE INDEX person_user_name ON person (lower(user_name)) WHERE provisioned;
CREATE INDEX person_external_id ON person (external_id);

CREATE TABLE person_group (
    id           text PRIMARY KEY,                      -- g_...
    display_name text NOT NULL,
    external_id  text,
    created      timestamptz NOT NULL DEFAULT now(),
    changed      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX person_group_name ON person_group (lower(display_name));

CREATE TABLE person_group_member (
    group_id  text NOT NULL REFERENCES person_group (id) ON DELETE CASCADE,
    person_id text NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, person_id)
);
CREATE INDEX person_group_member_person ON person_group_member (person_id);

ALTER TABLE api_key
    ADD COLUMN person text,                             -- whose key it is: it ends with the person's account
    ADD COLUMN scopes text[];                           -- NULL: all that its roles allow
