-- Every version of what an event counts for: from when it was known (`received_at`) until when it was replaced by a
-- correction or removed by a void (`replaced_at`; null: it counts today). An event stays where and when it happened.
CREATE OR REPLACE TEMP TABLE effective AS
SELECT
  j.source, j.event_id, j.subscription_no, j.meter_no, j.zone, j.first_offset, j.changes_at, j.then_offset, j.aggregation, j.own_unit, j.occurred_at, j.quantity,
  j.value_key, j.received_at, c.replaced_at, CASE WHEN c.root_id IS NULL THEN 0 ELSE 1 END AS corrected
FROM judged AS j
LEFT JOIN (SELECT source, root_id, received_at AS replaced_at FROM changes WHERE place = 1) AS c
  ON c.source = j.source AND c.root_id = j.event_id
WHERE j.kind = 'usage' AND j.reason_code IS NULL
UNION ALL
SELECT
  j.source, j.event_id, j.subscription_no, j.meter_no, j.zone, j.first_offset, j.changes_at, j.then_offset, j.aggregation, j.own_unit, j.occurred_at,
  CASE WHEN c.kind = 'usage' THEN j.quantity ELSE c.quantity END, coalesce(c.value_key, j.value_key), c.received_at,
  c.replaced_at, 0
FROM changes AS c
JOIN judged AS j ON j.source = c.source AND j.event_id = c.root_id AND j.kind = 'usage' AND j.reason_code IS NULL
WHERE c.kind <> 'void'
UNION ALL
-- a correction whose event never came (or could not be read) stands in for it
SELECT
  c.source, c.event_id, c.subscription_no, c.meter_no, c.zone, c.first_offset, c.changes_at, c.then_offset, c.aggregation, c.own_unit, c.occurred_at, c.quantity,
  c.value_key, c.received_at, c.replaced_at, 0
FROM changes AS c
LEFT JOIN judged AS j ON j.source = c.source AND j.event_id = c.root_id AND j.kind = 'usage' AND j.reason_code IS NULL
WHERE c.kind = 'correction' AND j.event_id IS NULL
