-- Who approved a model as it was (controls/governance.py). Kept for ever: an approval is evidence.

CREATE TABLE model_approval (
    id     text PRIMARY KEY,
    model  text NOT NULL,
    digest text NOT NULL,                  -- of its endpoints as they were approved
    who    text NOT NULL,                  -- as the approver wrote it
    actor  text NOT NULL,                  -- a pseudonym of the key that was used
    note   text NOT NULL DEFAULT '',
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX model_approval_model_at ON model_approval (model, at DESC);
