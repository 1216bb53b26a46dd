-- compatible_from: 0010
-- What a key may call beyond apps, from where, and the value that it had before it was rotated (room guard/).
ALTER TABLE api_key
    ADD COLUMN models          text[],      -- NULL: not bounded by it; with apps, their union is what the key may call
    ADD COLUMN networks        text[] NOT NULL DEFAULT '{}',    -- CIDR; empty: from anywhere
    ADD COLUMN previous_digest bytea UNIQUE CHECK (octet_length(previous_digest) = 32),
    ADD COLUMN previous_until  timestamptz, -- until when the value before the last rotation is still good
    ADD COLUMN rotated         timestamptz;
