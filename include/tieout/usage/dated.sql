-- Versions by day in the customer's contracted zone. An offset that holds for all the rows spares asking the zone of
-- each. `received_day` is null where the event came on the day it happened, as nearly all do: late is a matter of days.
CREATE OR REPLACE TEMP VIEW dated AS
SELECT
  *,
  CASE
    WHEN received_at < occurred_at THEN NULL
    WHEN utc_offset IS NOT NULL AND (epoch_us(received_at) + utc_offset) // 86400000000 = day_no THEN NULL
    WHEN CAST(timezone(zone, received_at) AS DATE) <= usage_day THEN NULL
    ELSE CAST(timezone(zone, received_at) AS DATE)
  END AS received_day,
  CAST(timezone(zone, replaced_at) AS DATE) AS replaced_day
FROM (
  SELECT
    *,
    CASE
      WHEN utc_offset IS NOT NULL THEN DATE '1970-01-01' + CAST((epoch_us(occurred_at) + utc_offset) // 86400000000 AS INTEGER)
      ELSE CAST(timezone(zone, occurred_at) AS DATE)
    END AS usage_day,
    (epoch_us(occurred_at) + utc_offset) // 86400000000 AS day_no
  FROM effective
) AS placed
