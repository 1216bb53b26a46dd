-- compatible_from: 0030
-- Whoever asked for a listing waits until one that began later has ended, well or not (room knowledge/).
ALTER TABLE source ADD COLUMN attempted_at timestamptz;     -- when the last listing that has ended began
