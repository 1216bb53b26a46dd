-- What was asked, how it was answered and what it cost. Written in batches off the request path (ledger/writer.py); the
-- primary keys are made by the process that served the request, so that a batch sent twice is stored once.

CREATE TABLE trace (
    id            text PRIMARY KEY,
    started       timestamptz NOT NULL,
    app           text NOT NULL,
    release       text NOT NULL DEFAULT '',
    principal     text NOT NULL DEFAULT '',
    team          text NOT NULL DEFAULT '',
    rung          text NOT NULL DEFAULT '',
    status        text NOT NULL,            -- ok | refused | failed | cancelled
    error_code    text NOT NULL DEFAULT '',
    duration_us   bigint NOT NULL,
    model         text NOT NULL DEFAULT '',
    input_tokens  integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    cost_microusd bigint NOT NULL DEFAULT 0,
    masked_count  integer NOT NULL DEFAULT 0,
    question      text,                     -- guarded for records: placeholders in place of personal data; NULL when content is off
    answer        text,
    attributes    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX trace_started ON trace (started DESC, id DESC);
CREATE INDEX trace_app_started ON trace (app, started DESC, id DESC);

CREATE TABLE span (
    trace_id    text NOT NULL,
    number      integer NOT NULL,
    parent      integer NOT NULL,
    started     timestamptz NOT NULL,
    name        text NOT NULL,
    kind        text NOT NULL,              -- guard | search | model | tool | app | store
    start_us    bigint NOT NULL,            -- from the start of the trace
    duration_us bigint NOT NULL,
    status      text NOT NULL,
    attributes  jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (trace_id, number)
);
CREATE INDEX span_started ON span (started);

CREATE TABLE usage (
    id              text PRIMARY KEY,
    at              timestamptz NOT NULL,
    trace_id        text NOT NULL,
    team            text NOT NULL,
    principal       text NOT NULL,
    app             text NOT NULL,
    release         text NOT NULL DEFAULT '',
    route           text NOT NULL DEFAULT '',
    endpoint        text NOT NULL,
    model           text NOT NULL,
    input_uncached  integer NOT NULL DEFAULT 0,
    cache_read      integer NOT NULL DEFAULT 0,
    cache_write     integer NOT NULL DEFAULT 0,
    output_tokens   integer NOT NULL DEFAULT 0,
    reasoning_tokens integer NOT NULL DEFAULT 0,
    source          text NOT NULL,          -- reported | estimated
    cost_microusd   bigint NOT NULL DEFAULT 0
);
CREATE INDEX usage_at ON usage (at DESC);
CREATE INDEX usage_team_at ON usage (team, at DESC);
