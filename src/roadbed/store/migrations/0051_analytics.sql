-- Saved questions of analytics apps (apps/analytics_saved.py), with the last result of those that run by schedule.
-- A question belongs to a team; a kept result whose rows are its creator's alone is shown to nobody else.
-- compatible_from: 0040

CREATE TABLE analytics_question (
    id       text PRIMARY KEY,
    app      text NOT NULL,
    team     text NOT NULL,
    name     text NOT NULL,
    prepared jsonb NOT NULL,                -- title, statements by source, join, chart, unit
    creator  text NOT NULL,                 -- principal on whose behalf a schedule runs it
    every    text NOT NULL DEFAULT '',      -- such as `1d at 07:00`; empty without a schedule
    created  timestamptz NOT NULL DEFAULT now(),
    kept     jsonb,                         -- the last result of the schedule: table, cites
    taken    timestamptz,
    trouble  text NOT NULL DEFAULT '',      -- code of why the last run kept nothing
    UNIQUE (app, team, name)
);
CREATE INDEX analytics_question_scheduled ON analytics_question (id) WHERE every <> '';
