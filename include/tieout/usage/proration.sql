-- Billing periods in which prorated prices are in force: each price has its days, the usage of those days, and the
-- share of the period that its fixed amounts are charged for. Runs after `rating.sql` chose prices for whole periods.
CREATE OR REPLACE TEMP TABLE split AS
SELECT w.*
FROM wanted AS w
JOIN part AS a USING (usage_no)
LEFT JOIN price AS p ON p.price_no = a.price_no
WHERE a.reason_code = 'no_price' OR (a.reason_code IS NULL AND p.proration <> 'none');

CREATE OR REPLACE TEMP TABLE stretch AS
WITH own AS (
  SELECT s.usage_no, p.price_no
  FROM split AS s
  JOIN price AS p ON p.subscription_source_id = s.subscription_source_id AND p.meter = s.meter
  WHERE p.proration <> 'none' AND (p.valid_from IS NULL OR p.valid_from < s.period_end)
    AND (p.valid_to IS NULL OR p.valid_to > s.period_start)
), general AS (
  SELECT s.usage_no, p.price_no
  FROM (SELECT * FROM split ANTI JOIN own USING (usage_no)) AS s
  JOIN price AS p ON p.subscription_source_id IS NULL AND p.meter = s.meter
  WHERE p.proration <> 'none' AND (p.valid_from IS NULL OR p.valid_from < s.period_end)
    AND (p.valid_to IS NULL OR p.valid_to > s.period_start) AND (s.currency IS NULL OR s.currency = p.currency)
), dated AS (
  SELECT
    s.usage_no, p.price_no, p.proration, s.subscription_source_id, s.meter, s.period_start, s.period_end,
    greatest(s.period_start, p.valid_from) AS first_day, least(s.period_end, p.valid_to) AS after_day,
    -- whole seconds of the clock, so that a day on which it is changed has 23 or 25 hours
    epoch(timezone(p.zone, CAST(s.period_start AS TIMESTAMP)))::BIGINT AS opens,
    epoch(timezone(p.zone, CAST(s.period_end AS TIMESTAMP)))::BIGINT AS closes,
    epoch(coalesce(p.starts_at, timezone(p.zone, CAST(p.valid_from AS TIMESTAMP))))::BIGINT AS starts,
    epoch(coalesce(p.ends_at, timezone(p.zone, CAST(p.valid_to AS TIMESTAMP))))::BIGINT AS ends
  FROM (FROM own UNION ALL FROM general)
  JOIN split AS s USING (usage_no)
  JOIN price AS p USING (price_no)
)
SELECT
  usage_no, price_no, first_day, after_day,
  CASE proration WHEN 'day' THEN after_day - first_day
    ELSE least(closes, coalesce(ends, closes)) - greatest(opens, coalesce(starts, opens)) END AS share,
  CASE proration WHEN 'day' THEN period_end - period_start ELSE closes - opens END AS whole,
  coalesce(first_day < max(after_day) OVER (
    PARTITION BY usage_no ORDER BY first_day, after_day, price_no ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ), false) AS collides
FROM dated;

CREATE OR REPLACE TEMP TABLE prorated AS
WITH used AS (
  SELECT s.usage_no, d.period_start AS day, d.quantity
  FROM split AS s
  JOIN given_usage_summary AS d
    ON d.grain = 'day' AND d.subscription_source_id = s.subscription_source_id AND d.meter = s.meter
    AND d.period_start >= s.period_start AND d.period_start < s.period_end
), summed AS (
  SELECT t.usage_no, t.price_no, coalesce(sum(u.quantity), 0) AS quantity
  FROM stretch AS t
  LEFT JOIN used AS u ON u.usage_no = t.usage_no AND u.day >= t.first_day AND u.day < t.after_day
  GROUP BY ALL
), judged AS (
  SELECT
    s.usage_no,
    CASE
      WHEN t.collides THEN 'two_prices'
      WHEN coalesce(d.quantity, 0) <> s.quantity AND NOT (t.pieces = 1 AND t.covered) THEN 'no_days'
      WHEN NOT t.covered AND p.quantity <> s.quantity THEN 'no_price'
    END AS reason_code,
    -- one price all through: whose days they are does not matter
    CASE WHEN t.pieces = 1 AND t.covered THEN s.quantity END AS undivided
  FROM split AS s
  JOIN (
    SELECT usage_no, count(*) AS pieces, bool_or(collides) AS collides,
      sum(after_day - first_day) >= any_value(period_end - period_start) AS covered
    FROM stretch JOIN split USING (usage_no) GROUP BY usage_no
  ) AS t USING (usage_no)
  JOIN (SELECT usage_no, sum(quantity) AS quantity FROM summed GROUP BY usage_no) AS p USING (usage_no)
  LEFT JOIN (SELECT usage_no, sum(quantity) AS quantity FROM used GROUP BY usage_no) AS d USING (usage_no)
)
SELECT t.usage_no, t.price_no, CAST(coalesce(j.undivided, m.quantity) AS DECIMAL(28, 9)) AS quantity, t.share, t.whole,
  j.reason_code
FROM stretch AS t
JOIN judged AS j USING (usage_no)
JOIN summed AS m USING (usage_no, price_no);

DELETE FROM part WHERE usage_no IN (SELECT usage_no FROM prorated);

-- a period that waits waits once
INSERT INTO part
SELECT usage_no, price_no, quantity, share, whole, reason_code FROM prorated
QUALIFY reason_code IS NULL OR row_number() OVER (PARTITION BY usage_no ORDER BY price_no) = 1;
