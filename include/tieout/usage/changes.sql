-- Corrections and voids by the event at the root of their chain: a correction of a correction changes the same first
-- event. The second statement follows each chain one hop further, as long as one is left to follow (`open` > 0).
CREATE OR REPLACE TEMP TABLE roots AS
SELECT source, event_id, corrects_event_id AS root_id, 1 AS open FROM judged WHERE kind <> 'usage' AND reason_code IS NULL;

CREATE OR REPLACE TEMP TABLE hopped AS
SELECT r.source, r.event_id, coalesce(n.root_id, r.root_id) AS root_id, CASE WHEN n.root_id IS NULL THEN 0 ELSE 1 END AS open
FROM roots AS r
LEFT JOIN roots AS n ON n.source = r.source AND n.event_id = r.root_id;

CREATE OR REPLACE TEMP TABLE changes AS
SELECT
  r.root_id, j.*,
  row_number() OVER (PARTITION BY r.source, r.root_id ORDER BY j.received_at, j.event_id) AS place,
  lead(j.received_at) OVER (PARTITION BY r.source, r.root_id ORDER BY j.received_at, j.event_id) AS replaced_at
FROM roots AS r
JOIN judged AS j ON j.source = r.source AND j.event_id = r.event_id
