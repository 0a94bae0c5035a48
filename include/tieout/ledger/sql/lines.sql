-- Nothing is netted: the two sides of one account stay two lines. The order of lines depends on content alone.
CREATE OR REPLACE TEMP TABLE grouped AS
SELECT
  p.slot, c.chunk, c.chunks, p.currency, p.transaction_currency, p.event_order, p.event_type, p.account, p.role,
  p.product_family, p.tax_code, p.posted_side,
  min(p.leg) AS first_leg, sum(p.amount) AS amount, sum(p.transaction_amount) AS transaction_amount,
  CAST(sum(p.row_count) AS BIGINT) AS row_count,
  CASE WHEN min(p.rate) = max(p.rate) THEN max(p.rate) END AS rate,
  CASE WHEN min(p.rate_source) = max(p.rate_source) THEN max(p.rate_source) END AS rate_source
FROM parted AS p
JOIN slot_chunk AS c
  ON c.slot = p.slot AND c.currency = p.currency AND c.event_type = p.event_type AND c.shape = p.shape
GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE numbered AS
SELECT
  g.*,
  'TIEOUT/' || g.slot || '/v' || v.version
    || CASE WHEN g.chunks > 1 THEN '/' || g.chunk || 'of' || g.chunks ELSE '' END AS run_key,
  row_number() OVER (
    PARTITION BY g.slot, g.chunk
    ORDER BY
      g.event_order, g.event_type, g.first_leg, g.posted_side DESC, g.account, g.role, g.product_family, g.tax_code,
      g.transaction_currency
  ) AS line_no
FROM grouped AS g
JOIN slot_version AS v USING (slot);

CREATE OR REPLACE TEMP TABLE journal_line AS
SELECT
  n.run_key, n.line_no, n.account, n.role AS account_role, n.event_type, n.product_family, n.tax_code,
  n.posted_side AS side, CAST(n.amount AS DECIMAL(18, 4)) AS amount, n.currency, n.row_count,
  replace(n.event_type, '_', ' ')
    || CASE WHEN n.product_family <> '' THEN ' ' || n.product_family ELSE '' END
    || CASE WHEN n.tax_code <> '' THEN ' ' || n.tax_code ELSE '' END
    || CASE WHEN n.transaction_currency <> n.currency THEN ' ' || n.transaction_currency ELSE '' END
    -- negative source lines and what a later version corrects stand against the event's usual side, which is the rule's;
    -- a negative invoice has negative amounts, so its usual side is the other one; gains and losses have no usual side
    || CASE WHEN (r.side <> n.posted_side) <> starts_with(n.event_type, 'negative_') AND r.amount NOT IN ('exchange', 'functional')
         THEN ', taken back' ELSE '' END AS description,
  n.transaction_currency, CAST(n.transaction_amount AS DECIMAL(18, 4)) AS transaction_amount, n.rate, n.rate_source
FROM numbered AS n
LEFT JOIN rule AS r ON r.event_type = n.event_type AND r.leg = n.first_leg;

