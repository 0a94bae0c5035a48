-- Billing periods that need more than one look: which price holds for each, or why none does.
CREATE OR REPLACE TEMP TABLE wanted AS
SELECT row_number() OVER () AS usage_no, subscription_source_id, meter, period_start, period_end, quantity, currency
FROM used
WHERE NOT plain;

-- The price in force on the period's last day; a price agreed with the subscription goes before the general one, and of
-- general ones only those in the subscription's currency count.
CREATE OR REPLACE TEMP TABLE choice AS
WITH own AS (
  SELECT w.usage_no, p.price_no
  FROM wanted AS w
  JOIN price AS p ON p.subscription_source_id = w.subscription_source_id AND p.meter = w.meter
  WHERE (p.valid_from IS NULL OR p.valid_from < w.period_end) AND (p.valid_to IS NULL OR p.valid_to >= w.period_end)
), general AS (
  SELECT w.usage_no, p.price_no
  FROM (SELECT * FROM wanted ANTI JOIN own USING (usage_no)) AS w
  JOIN price AS p ON p.subscription_source_id IS NULL AND p.meter = w.meter
  WHERE (p.valid_from IS NULL OR p.valid_from < w.period_end) AND (p.valid_to IS NULL OR p.valid_to >= w.period_end)
    AND (w.currency IS NULL OR w.currency = p.currency)
)
SELECT usage_no, min(price_no) AS price_no, count(*) AS candidates
FROM (FROM own UNION ALL FROM general)
GROUP BY usage_no;

-- What is rated as a whole: a price that is in force on the last day and not prorated, or none that could be.
CREATE OR REPLACE TEMP TABLE part AS
SELECT w.usage_no, c.price_no, w.quantity, 1 AS share, 1 AS whole,
  CASE
    WHEN c.price_no IS NULL THEN 'no_price'
    WHEN c.candidates > 1 THEN 'two_prices'
  END AS reason_code
FROM wanted AS w
LEFT JOIN choice AS c USING (usage_no);
