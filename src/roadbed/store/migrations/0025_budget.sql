-- Money by lease (ledger/budget_bank.py): one row per budget and period, and the slices that processes hold of it.
-- settled + leased never passes cap; all amounts are micro-USD. Also: limits' heartbeats, alerts, budgets of keys, tags.
-- compatible_from: 0020

CREATE TABLE budget (
    id      text NOT NULL,                 -- team:support/month, app:helpdesk/day, key:ID/month
    starts  timestamptz NOT NULL,
    ends    timestamptz NOT NULL,
    cap     bigint NOT NULL CHECK (cap >= 0),
    settled bigint NOT NULL DEFAULT 0 CHECK (settled >= 0),
    leased  bigint NOT NULL DEFAULT 0 CHECK (leased >= 0),
    granted bigint NOT NULL DEFAULT 0,     -- by the last grant alone: what its statement hands on to the lease
    PRIMARY KEY (id, starts)
);

CREATE TABLE budget_lease (
    id        text PRIMARY KEY,
    budget_id text NOT NULL,
    starts    timestamptz NOT NULL,
    holder    text NOT NULL,
    granted   bigint NOT NULL,
    spent     bigint NOT NULL DEFAULT 0,   -- of granted, already in budget.settled
    state     text NOT NULL DEFAULT 'open',  -- open | charged (it ended unheard: all of it counts as spent) | returned
    expires   timestamptz NOT NULL
);
CREATE INDEX budget_lease_open ON budget_lease (budget_id, starts) WHERE state = 'open';
CREATE INDEX budget_lease_expires ON budget_lease (expires);

CREATE TABLE budget_alert (
    budget_id text NOT NULL,
    starts    timestamptz NOT NULL,
    percent   integer NOT NULL,
    claimed   timestamptz NOT NULL DEFAULT now(),
    tries     integer NOT NULL DEFAULT 1,
    posted    timestamptz,
    PRIMARY KEY (budget_id, starts, percent)
);

CREATE TABLE limit_share (
    holder text PRIMARY KEY,
    seen   timestamptz NOT NULL,
    demand jsonb NOT NULL                  -- what this process was asked for in the last second, by limit
);

ALTER TABLE api_key ADD COLUMN budget text NOT NULL DEFAULT '';
ALTER TABLE usage ADD COLUMN tags text[] NOT NULL DEFAULT '{}';
