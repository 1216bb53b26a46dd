-- Calls of tools that change something (tools/approvals.py): who may let them run, and what came of each, once.
-- A row of tool_effect is written before the call acts; one that stays pending after a crash is unknown, never run again.
-- compatible_from: 0040

CREATE TABLE tool_approval (
    id         text PRIMARY KEY,
    tool       text NOT NULL,
    source     text NOT NULL,
    effect     text NOT NULL,
    arguments  jsonb NOT NULL,
    digest     text NOT NULL,              -- SHA-256 over RFC 8785 of tool, arguments, principal and nonce
    call       text NOT NULL,              -- the same without the nonce: finds the approval of a repeated call
    nonce      text NOT NULL,
    principal  text NOT NULL,
    team       text NOT NULL,
    name       text NOT NULL DEFAULT '',
    preview    jsonb NOT NULL,
    state      text NOT NULL DEFAULT 'waiting',  -- waiting | approved | denied
    decided_by text,
    reason     text NOT NULL DEFAULT '',
    asked      timestamptz NOT NULL DEFAULT now(),
    expires    timestamptz NOT NULL,
    decided    timestamptz
);
CREATE INDEX tool_approval_call ON tool_approval (call, asked DESC);
CREATE INDEX tool_approval_waiting ON tool_approval (expires) WHERE state = 'waiting';

CREATE TABLE tool_effect (
    approval  text PRIMARY KEY REFERENCES tool_approval (id) ON DELETE CASCADE,
    key       text NOT NULL UNIQUE,        -- what the target is given, to know a repeated call by
    state     text NOT NULL DEFAULT 'pending',   -- pending | done | failed | unknown
    outcome   jsonb,
    began     timestamptz NOT NULL DEFAULT now(),
    ended     timestamptz,
    collected timestamptz                  -- when the asker was told
);
