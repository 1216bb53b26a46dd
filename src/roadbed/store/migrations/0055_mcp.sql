-- What MCP clients of the older versions are asked and follow (server/mcp_questions.py, server/mcp_follow.py): in the
-- database, so that whichever process a client's next request reaches can go on.

CREATE TABLE mcp_question (
    id        text PRIMARY KEY,            -- unguessable; the client answers to it
    principal text NOT NULL,               -- who was asked, and may answer
    answer    jsonb,                       -- a choice, never text; there until the asking process fetched it
    expires   timestamptz NOT NULL
);
CREATE INDEX mcp_question_principal ON mcp_question (principal);

CREATE TABLE mcp_ended_session (           -- a client ended it before its time
    session text PRIMARY KEY,
    expires timestamptz NOT NULL
);

CREATE TABLE mcp_subscription (
    session   text NOT NULL,
    document  text NOT NULL,
    principal text NOT NULL,
    version   text NOT NULL,               -- the last one that the client knows of; empty: there is none for it
    expires   timestamptz NOT NULL,
    PRIMARY KEY (session, document)
);
CREATE INDEX mcp_subscription_principal ON mcp_subscription (principal);
