-- What each other content of an event would move, in cases that are rated. Two contents of one subscription, meter and
-- billing period differ by what the period would cost with the one in place of the other; else either could be the wrong
-- bill's, and each is what it adds to its own period. Only quantities that are added, or events that are counted, tell.
CREATE OR REPLACE TEMP TABLE content AS
SELECT
  c.source, c.event_id, c.version_no, c.subscription_source_id, c.meter, m.aggregation,
  CAST(timezone(z.zone, c.occurred_at) AS DATE) AS usage_day,
  CASE m.aggregation WHEN 'count' THEN 1 ELSE c.quantity END AS quantity
FROM made_usage_conflict AS c
JOIN subscription_list AS s ON s.source_id = c.subscription_source_id
JOIN content_zones AS z ON z.zone = s.zone
JOIN meters AS m ON m.meter = c.meter
WHERE c.kind = 'usage' AND m.aggregation IN ('sum', 'count') AND c.quantity >= 0;

CREATE OR REPLACE TEMP VIEW used_days AS SELECT DISTINCT subscription_source_id, meter, usage_day FROM content;

CREATE OR REPLACE TEMP TABLE subscriptions AS SELECT * FROM subscription_list;
