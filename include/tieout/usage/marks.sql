-- How far each source has come with the events read, and how many of them were late.
CREATE OR REPLACE TEMP VIEW marks AS
SELECT
  source, max(occurred_at) AS last_occurred_at, max(received_at) AS last_received_at, count(*) AS deliveries,
  count(*) FILTER (received_at > occurred_at + to_hours($hours)) AS late_deliveries,
  CAST(coalesce(max(greatest(epoch_us(received_at) - epoch_us(occurred_at), 0)), 0) // 1000000 AS BIGINT)
    AS longest_delay_seconds
FROM given_usage_event
GROUP BY source
