-- The tamper-evident record of acts and decisions (ledger/audit.py): one hash chain per process, one tree over all.

CREATE TABLE audit_record (
    shard   text NOT NULL,                 -- one process from its start to its end
    seq     bigint NOT NULL,               -- from 1, without gaps
    at      timestamptz NOT NULL,
    action  text NOT NULL,
    actor   text NOT NULL,                 -- a pseudonym
    record  text NOT NULL,                 -- canonical JSON, exactly the bytes that were hashed
    chain   bytea NOT NULL CHECK (octet_length(chain) = 32),
    PRIMARY KEY (shard, seq)
);
CREATE INDEX audit_record_at ON audit_record (at DESC, shard DESC, seq DESC);
CREATE INDEX audit_record_act ON audit_record (at DESC, shard DESC, seq DESC) WHERE action <> 'request';

CREATE TABLE audit_shard (
    shard       text PRIMARY KEY,
    host        text NOT NULL,
    slot        integer NOT NULL,          -- 0: the owner of a deployment; else a serving process
    started     timestamptz NOT NULL DEFAULT now(),
    placed_seq  bigint NOT NULL DEFAULT 0, -- up to here the tree holds it
    placed_head bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    first_seq   bigint NOT NULL DEFAULT 1  -- what is before was removed by retention
);
CREATE INDEX audit_shard_host ON audit_shard (host, slot, shard DESC);

-- One row: the tree as the roots of its perfect subtrees. Its lock is the lease of the one checkpointer.
CREATE TABLE audit_tree (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    number        bigint NOT NULL DEFAULT 0,
    size          bigint NOT NULL DEFAULT 0,
    frontier      bytea NOT NULL DEFAULT '',
    root          bytea NOT NULL DEFAULT decode('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'hex'),
    -- where the records that are kept begin: a checkpoint, its frontier, and every shard's head there
    base_number   bigint NOT NULL DEFAULT 0,
    base_size     bigint NOT NULL DEFAULT 0,
    base_frontier bytea NOT NULL DEFAULT '',
    base_heads    jsonb NOT NULL DEFAULT '{}',
    fault         text NOT NULL DEFAULT '' -- why nothing more is signed
);
INSERT INTO audit_tree DEFAULT VALUES;

CREATE TABLE audit_checkpoint (
    number   bigint PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    size     bigint NOT NULL,
    note     text NOT NULL,                -- three lines, a digest of `ranges`, and the signature
    ranges   text NOT NULL,                -- JSON: [[shard, first seq, last seq, head], ...], what it added, in order
    proof    text NOT NULL,                -- JSON: that it extends the checkpoint before it
    frontier bytea NOT NULL
);
CREATE INDEX audit_checkpoint_at ON audit_checkpoint (at);

CREATE TABLE audit_shipment (
    destination text PRIMARY KEY,
    number      bigint NOT NULL DEFAULT 0, -- the last checkpoint that it has
    shipped     timestamptz,
    error       text NOT NULL DEFAULT ''
);

-- The logs of others, of which this deployment is the witness.
CREATE TABLE audit_witness (
    origin text PRIMARY KEY,
    key    text NOT NULL,
    size   bigint NOT NULL,
    root   bytea NOT NULL,
    note   text NOT NULL,
    seen   timestamptz NOT NULL DEFAULT now(),
    alarm  text NOT NULL DEFAULT '',
    alarmed timestamptz
);
