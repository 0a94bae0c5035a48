-- Events of types that have more lines in a slot than a journal may have, by the set of lines each event reaches:
-- whole events are dealt out to the journals, so each journal balances.
CREATE OR REPLACE TEMP TABLE event_part AS
WITH reached AS (
  SELECT
    p.slot, p.currency, p.event_type, p.event_id, p.event_date,
    list_sort(list(DISTINCT concat_ws('|',
      p.posted_side, p.account, p.role, p.product_family, p.tax_code, p.transaction_currency))) AS lines
  FROM placed AS p
  JOIN too_long AS t ON t.slot = p.slot AND t.currency = p.currency AND t.event_type = p.event_type
  GROUP BY ALL
)
SELECT *, dense_rank() OVER (PARTITION BY slot, currency, event_type ORDER BY lines) AS shape FROM reached;

CREATE OR REPLACE TEMP VIEW parted AS
SELECT p.*, coalesce(e.shape, 0) AS shape
FROM placed AS p
LEFT JOIN event_part AS e
  ON e.slot = p.slot AND e.currency = p.currency AND e.event_type = p.event_type
  AND e.event_id = p.event_id AND e.event_date = p.event_date;
