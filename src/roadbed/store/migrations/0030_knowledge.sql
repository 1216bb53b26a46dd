-- Documents, and the index over them (room knowledge/). Vectors live in one table per generation, made with the
-- generation: chunk_vector_<id>(chunk_no integer PRIMARY KEY, embedding halfvec(n)).
-- Every writer of a generation first locks its row: that orders epochs and chunk numbers by commit, so that a reader
-- that knows epoch e catches up with "chunk_no >= my next_chunk_no" and "index_event.epoch > e".

CREATE TABLE source (
    name            text PRIMARY KEY,       -- as in the manifest; a table of a database source is `source.table`
    kind            text NOT NULL,
    is_declared     boolean NOT NULL DEFAULT true,
    state           text NOT NULL DEFAULT 'new',    -- new | listing | indexing | idle | held | failed
    message         text NOT NULL DEFAULT '',       -- why it is held or failed
    held_count      integer NOT NULL DEFAULT 0,     -- documents gone from the source whose deletion waits for a person
    refused         jsonb NOT NULL DEFAULT '[]',    -- entries that were listed but may not be read: [key, reason]
    listed_count    integer NOT NULL DEFAULT 0,
    acl_id          integer NOT NULL,
    label           text[] NOT NULL DEFAULT '{}',
    listed_at       timestamptz             -- when a listing last reached its end
);

-- Who may see: a set of groups (everyone, team:NAME, key:ID), stored once per distinct set and never changed.
CREATE TABLE acl (
    acl_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest  bytea NOT NULL UNIQUE
);

CREATE TABLE acl_member (
    group_name  text NOT NULL,
    acl_id      integer NOT NULL REFERENCES acl ON DELETE CASCADE,
    PRIMARY KEY (group_name, acl_id)
);

CREATE TABLE document (
    id              text PRIMARY KEY,       -- a hash of (source, key): the same document has the same id after a re-index
    no              integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    source          text NOT NULL REFERENCES source,
    key             text NOT NULL,
    uri             text NOT NULL DEFAULT '',
    title           text NOT NULL DEFAULT '',
    acl_id          integer NOT NULL REFERENCES acl,
    guarded_label   text[] NOT NULL DEFAULT '{}',   -- the source's label and what the guard found
    state           text NOT NULL,          -- pending | indexed | failed
    listed_version  text NOT NULL,          -- the source's cheap sign of change, such as a file's times and size
    version         text,                   -- hash of what was read, of which `content` is served; NULL: nothing is
    content         text,                   -- canonical text; every span is an offset into it
    blocks          bytea,                  -- block map of `content`, MessagePack
    language        text,
    media_type      text NOT NULL DEFAULT '',
    parser          text NOT NULL DEFAULT '',
    size_bytes      bigint NOT NULL DEFAULT 0,
    failure_reason  text NOT NULL DEFAULT '',
    failure_message text NOT NULL DEFAULT '',
    warnings        text[] NOT NULL DEFAULT '{}',
    changed_at      timestamptz NOT NULL DEFAULT now(),
    indexed_at      timestamptz,
    UNIQUE (source, key)
);
CREATE INDEX document_state ON document (source, state);
CREATE INDEX document_acl ON document (acl_id);

-- What was deleted, by id alone: a citation of it says when, and no rollback brings it back.
CREATE TABLE tombstone (
    document_id text PRIMARY KEY,
    deleted_at  timestamptz NOT NULL DEFAULT now()
);

-- A document that was sent through the API; its bytes are in the object store under `object_name`.
CREATE TABLE upload (
    source      text NOT NULL REFERENCES source,
    key         text NOT NULL,
    object_name text NOT NULL,
    media_type  text NOT NULL DEFAULT '',
    digest      text NOT NULL,
    size_bytes  bigint NOT NULL,
    groups      text[],                 -- NULL: those of the source
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, key)
);

CREATE TABLE collection (
    name            text PRIMARY KEY,
    is_declared     boolean NOT NULL DEFAULT true,
    live_generation integer
);

CREATE TABLE collection_source (
    collection  text NOT NULL REFERENCES collection ON DELETE CASCADE,
    source      text NOT NULL REFERENCES source ON DELETE CASCADE,
    PRIMARY KEY (collection, source)
);

CREATE TABLE generation (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection      text NOT NULL REFERENCES collection,
    state           text NOT NULL,          -- building | live | retired
    recipe          jsonb NOT NULL,         -- embedder digest, dimensions, chunker, chunk tokens, analyzer
    next_chunk_no   integer NOT NULL DEFAULT 0,
    epoch           bigint NOT NULL DEFAULT 0,      -- counts the transactions that changed it
    events_after    bigint NOT NULL DEFAULT 0,      -- index_event holds every event later than this epoch
    has_hnsw        boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now(),
    live_at         timestamptz
);
ALTER TABLE collection ADD FOREIGN KEY (live_generation) REFERENCES generation;

-- Documents of a generation whose chunks went away or whose acl changed, for processes that hold a copy in memory.
CREATE TABLE index_event (
    generation  integer NOT NULL REFERENCES generation ON DELETE CASCADE,
    epoch       bigint NOT NULL,
    document_no integer NOT NULL,
    PRIMARY KEY (generation, epoch, document_no)
);

CREATE TABLE chunk (
    generation  integer NOT NULL REFERENCES generation,
    chunk_no    integer NOT NULL,           -- dense, rising with each commit, never used again
    chunk_id    text NOT NULL,
    document_id text NOT NULL REFERENCES document,
    start_at    integer NOT NULL,
    end_at      integer NOT NULL,
    text        text NOT NULL,
    page        integer,
    location    text NOT NULL DEFAULT '',
    heading_path text[] NOT NULL DEFAULT '{}',
    vector_key  bytea,                      -- NULL: found by its words alone
    PRIMARY KEY (generation, chunk_no)
);
CREATE INDEX chunk_document ON chunk (document_id, generation, start_at);
CREATE INDEX chunk_vector_key ON chunk (vector_key);

-- Lexical index, row form: every posting is a delta row. `lex_delta` keeps its meaning (postings since the last merge)
-- when blocks of merged postings stand beside it.
CREATE TABLE lex_term (
    generation  integer NOT NULL REFERENCES generation,
    term        text NOT NULL,
    term_id     integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    PRIMARY KEY (generation, term)
);

CREATE TABLE lex_delta (
    generation  integer NOT NULL,
    term_id     integer NOT NULL,
    chunk_no    integer NOT NULL,
    tf          smallint NOT NULL,
    PRIMARY KEY (generation, term_id, chunk_no)
);

CREATE TABLE chunk_lex (
    generation  integer NOT NULL,
    chunk_no    integer NOT NULL,
    dl          integer NOT NULL,
    terms       integer[] NOT NULL,
    tfs         smallint[] NOT NULL,
    PRIMARY KEY (generation, chunk_no)
);

-- Vectors by hash of (model digest, text): neither can be read from the key. float32, little-endian.
CREATE TABLE vector_cache (
    key         bytea PRIMARY KEY,
    embedding   bytea NOT NULL
);
ALTER TABLE vector_cache ALTER COLUMN embedding SET STORAGE EXTERNAL;
