-- The audit's key can change (ledger/audit_keys.py). Empty: the key that the log began with.

ALTER TABLE audit_tree ADD COLUMN key text NOT NULL DEFAULT '';           -- the public key that signs now
ALTER TABLE audit_checkpoint ADD COLUMN key text NOT NULL DEFAULT '';     -- the one that signed it
ALTER TABLE audit_checkpoint ADD COLUMN rotation text NOT NULL DEFAULT ''; -- JSON, where the next key begins with it
