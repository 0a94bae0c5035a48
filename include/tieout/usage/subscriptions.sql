-- Subscriptions with the offsets of their zones for the events being read; no zone: it is unknown.
CREATE OR REPLACE TEMP TABLE subscriptions AS
SELECT l.* EXCLUDE (zone), z.zone, z.first_offset, z.changes_at, z.then_offset
FROM subscription_list AS l
LEFT JOIN zones AS z ON z.zone = l.zone
