-- Sums per subscription and meter, by day and by billing period. Period n begins n intervals after the anchor, on the
-- month's last day where the month is shorter, counted from the anchor each time.
WITH dated AS (
  SELECT *, CAST(timezone(zone, occurred_at) AS DATE) AS usage_date FROM effective
), numbered AS (
  SELECT *,
    -- whole intervals of months between anchor and day; one less where the day comes before the period's first day
    CAST(floor(datediff('month', anchor, usage_date) / months) AS INTEGER) AS guess
  FROM dated
), placed AS (
  SELECT *,
    guess - CASE WHEN CAST(anchor + to_months(CAST(guess * months AS INTEGER)) AS DATE) > usage_date THEN 1 ELSE 0 END AS n
  FROM numbered
), grains AS (
  SELECT *, 'day' AS grain, usage_date AS period_start, CAST(usage_date + 1 AS DATE) AS period_end FROM placed
  UNION ALL
  SELECT *, 'period', CAST(anchor + to_months(CAST(n * months AS INTEGER)) AS DATE),
    CAST(anchor + to_months(CAST((n + 1) * months AS INTEGER)) AS DATE)
  FROM placed
)
SELECT
  subscription_source_id, meter, grain, period_start, max(period_end) AS period_end,
  max(legal_entity_id) AS legal_entity_id, max(customer_id) AS customer_id,
  CAST(sum(quantity) AS DECIMAL(28,9)) AS quantity,
  max(unit) AS unit,
  CAST(sum(counts) AS BIGINT) AS event_count,
  CAST(sum(corrected) AS BIGINT) AS corrected_count,
  CAST(count(*) FILTER (counts = 1 AND received_at >= timezone(zone, CAST(period_end AS TIMESTAMP))) AS BIGINT) AS late_count,
  left(sha256(subscription_source_id || '|' || meter || '|' || grain || '|' || period_start), 16) AS correlation_id
FROM grains
GROUP BY subscription_source_id, meter, grain, period_start
ORDER BY subscription_source_id, meter, grain, period_start
