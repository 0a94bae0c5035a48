-- Events whose amounts only add up: one row for all of the same type, day, currency, dimensions and signs (`pattern`),
-- since those reach the same lines on the same sides.
CREATE OR REPLACE TEMP TABLE bucket AS
SELECT
  legal_entity_id, event_type, event_date, currency, product_family, tax_code, pattern, is_plain,
  count(*) AS row_count,
  sum(net) AS net, sum(tax) AS tax, sum(gross) AS gross, sum(deferred) AS deferred, sum(recognised) AS recognised,
  sum(to_receivable) AS to_receivable, sum(to_credit) AS to_credit, sum(rounding) AS rounding
FROM plain_event
GROUP BY ALL;
