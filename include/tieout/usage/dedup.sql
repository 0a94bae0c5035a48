-- Deliveries of events become events: by source and event id, across files and days. What is not content (when it was
-- received, where it lies) may differ between deliveries of one event; other content under one id is a conflict, of
-- which the delivery received first counts and every one is told.
CREATE OR REPLACE TEMP TABLE versions AS
SELECT
  source, event_id, subscription_source_id, meter, unit, quantity, value_key, kind, corrects_event_id, occurred_at,
  min(received_at) AS received_at, min(source_id) AS source_id, min(raw_ref) AS raw_ref, count(*) AS deliveries
FROM deliveries
GROUP BY
  source, event_id, subscription_source_id, meter, unit, quantity, value_key, kind, corrects_event_id, occurred_at;

CREATE OR REPLACE TEMP TABLE told AS
SELECT
  *,
  row_number() OVER (
    PARTITION BY source, event_id
    ORDER BY received_at, occurred_at, subscription_source_id, meter, quantity, kind, unit NULLS FIRST,
      value_key NULLS FIRST, corrects_event_id NULLS FIRST
  ) AS version_no,
  count(*) OVER (PARTITION BY source, event_id) AS version_count
FROM versions;

CREATE OR REPLACE TEMP VIEW firsts AS
SELECT
  source, event_id, source_id, raw_ref, subscription_source_id, meter, unit, quantity, value_key, kind,
  corrects_event_id, occurred_at, received_at
FROM told
WHERE version_no = 1;

CREATE OR REPLACE TEMP VIEW conflicts AS
SELECT * FROM told WHERE version_count > 1
