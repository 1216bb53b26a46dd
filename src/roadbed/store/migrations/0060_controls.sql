-- Controls that run all the time: their evidence, what was noted by hand, and the canary's own plant (controls/).

CREATE TABLE control_evidence (
    id        text PRIMARY KEY,
    control   text NOT NULL,
    at        timestamptz NOT NULL,
    outcome   text NOT NULL CHECK (outcome IN ('pass', 'fail', 'invalid')),
    record    text NOT NULL,               -- canonical JSON: counts, bounds and paths, never values
    signature text NOT NULL                -- of the record, by the audit's key
);
CREATE INDEX control_evidence_control_at ON control_evidence (control, at DESC, id DESC);
CREATE INDEX control_evidence_at ON control_evidence (at);

CREATE TABLE control_note (
    id    text PRIMARY KEY,
    at    timestamptz NOT NULL DEFAULT now(),
    kind  text NOT NULL,                   -- restore
    actor text NOT NULL,                   -- a pseudonym
    note  text NOT NULL DEFAULT ''
);
CREATE INDEX control_note_kind_at ON control_note (kind, at DESC);

CREATE TABLE control_plant (
    text text NOT NULL                     -- what the canary plants on purpose; empty between runs
);
