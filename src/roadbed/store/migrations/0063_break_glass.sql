-- compatible_from: 0061
-- An admin's rights for a bounded time in an emergency (guard/glasses.py). Kept for ever: each use is evidence.
CREATE TABLE break_glass (
    id            text PRIMARY KEY,
    principal     text NOT NULL,           -- the key's or person's id whose rights are raised
    name          text NOT NULL DEFAULT '',
    names         text[] NOT NULL,         -- who that is, as guard/duties.py has it
    lineage       text[] NOT NULL,
    is_person     boolean NOT NULL,
    reason        text NOT NULL,           -- with placeholders for what is personal
    started       timestamptz NOT NULL DEFAULT now(),
    ends          timestamptz NOT NULL CHECK (ends <= started + interval '60 minutes'),
    ended         timestamptz,
    ended_by      text NOT NULL DEFAULT '',
    reviewed      timestamptz,
    reviewed_by   text NOT NULL DEFAULT '',
    reviewer_name text NOT NULL DEFAULT '',
    review_note   text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX break_glass_active ON break_glass (principal) WHERE ended IS NULL;
CREATE INDEX break_glass_unreviewed ON break_glass (started) WHERE reviewed IS NULL;
