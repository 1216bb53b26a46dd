-- Durable jobs (store/jobs.py). A finished job is deleted; a failed one stays until it is retried or cleared.
-- Of one (name, dedupe_key) at most one is queued and at most one is running: what arrives while one runs is run after it.

CREATE TABLE job (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    payload     jsonb NOT NULL,             -- ids and settings, never content
    dedupe_key  text,
    priority    integer NOT NULL DEFAULT 0, -- higher first
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'failed')),
    run_after   timestamptz NOT NULL DEFAULT now(),
    attempt     integer NOT NULL DEFAULT 0, -- counted when it is taken, so that a job that kills its worker is counted too
    fence       bigint NOT NULL DEFAULT 0,  -- grows with every taking; whoever holds an older one has lost the job
    worker      text,
    lease_until timestamptz,
    last_error  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

CREATE INDEX job_next ON job (name, priority DESC, id) WHERE state <> 'failed';
CREATE INDEX job_failed ON job (changed_at DESC) WHERE state = 'failed';
CREATE UNIQUE INDEX job_one_queued ON job (name, dedupe_key) WHERE state = 'queued';
CREATE UNIQUE INDEX job_one_running ON job (name, dedupe_key) WHERE state = 'running';
