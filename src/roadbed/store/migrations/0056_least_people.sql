-- What directories sent of people beyond their names, mail addresses and ids is no longer kept.
UPDATE person SET profile = (
    SELECT coalesce(jsonb_object_agg(key, value), '{}')
    FROM jsonb_each(profile)
    WHERE key IN ('userName', 'externalId', 'active', 'displayName', 'name', 'emails')
)
WHERE profile - ARRAY['userName', 'externalId', 'active', 'displayName', 'name', 'emails'] <> '{}';
