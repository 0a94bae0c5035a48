-- Versions by day in the customer's contracted zone. Where the zone's clock changed at most once all over the rows, two
-- offsets spare asking the zone of each row. Nearly all events come on the day they happen: late is a matter of days.
CREATE OR REPLACE TEMP VIEW dated AS
SELECT
  *,
  CASE
    WHEN received_at <= occurred_at THEN usage_day
    WHEN received_day_no = day_no THEN usage_day
    ELSE greatest(CAST(timezone(zone, received_at) AS DATE), usage_day)
  END AS received_day,
  CASE WHEN replaced_at IS NOT NULL THEN CAST(timezone(zone, replaced_at) AS DATE) END AS replaced_day
FROM (
  SELECT
    *,
    CASE
      WHEN day_no IS NULL THEN CAST(timezone(zone, occurred_at) AS DATE)
      ELSE DATE '1970-01-01' + CAST(day_no AS INTEGER)
    END AS usage_day
  FROM (
    SELECT
      *,
      (epoch_us(occurred_at) + CASE WHEN epoch_us(occurred_at) < changes_at THEN first_offset ELSE then_offset END)
        // 86400000000 AS day_no,
      (epoch_us(received_at) + CASE WHEN epoch_us(received_at) < changes_at THEN first_offset ELSE then_offset END)
        // 86400000000 AS received_day_no
    FROM effective
  ) AS numbered
) AS placed
