-- Invoices, credit notes, voids and write-offs as accounting events, one row per line.
CREATE OR REPLACE TEMP TABLE billing_event AS
WITH invoiced AS (
  SELECT
    'invoice:' || l.source || ':' || l.line_id AS event_id,
    CASE WHEN l.total < 0 THEN 'negative_invoice' ELSE 'invoice' END
      || CASE WHEN l.is_ahead THEN '_ahead' ELSE '_delivered' END AS event_type,
    l.document_id,
    l.number AS document_number,
    l.invoice_date AS event_date,
    l.currency,
    l.product_family,
    l.tax_code,
    l.net,
    l.tax,
    l.net + l.tax + l.rounding AS gross,
    0 AS deferred,
    0 AS recognised,
    0 AS to_receivable,
    0 AS to_credit,
    l.rounding,
    CASE
      WHEN l.is_contradictory THEN 'the lines do not add up to the document''s total'
      WHEN l.product_family IS NULL THEN 'product ' || coalesce(l.product_source_id, '(none)') || ' is not mapped to a family'
    END AS held_reason,
    l.source,
    l.line_id AS source_id,
    l.correlation_id,
    l.raw_ref
  FROM ledger_line AS l, run
  WHERE l.invoice_date >= run.go_live AND NOT l.is_taken_over
), empty_document AS (
  SELECT
    'invoice:' || i.document_id AS event_id,
    'invoice_delivered' AS event_type,
    i.document_id,
    i.number,
    i.accounting_date,
    i.currency,
    NULL, NULL,
    i.subtotal, i.tax, i.total, 0, 0, 0, 0, 0,
    'the document has no lines',
    i.source, i.source_id, i.correlation_id, i.raw_ref
  FROM ledger_invoice AS i, run
  WHERE i.accounting_date >= run.go_live AND i.total <> 0
    AND NOT EXISTS (SELECT 1 FROM ledger_line AS l WHERE l.document_id = i.document_id)
), credited_line AS (
  SELECT
    n.source || ':' || n.source_id AS document_id,
    n.number,
    n.accounting_date AS on_date,
    n.currency,
    n.total,
    n.to_receivable,
    c.source,
    c.source_id,
    c.amount AS net,
    c.tax,
    coalesce(c.tax_code, l.tax_code) AS tax_code,
    coalesce(c.product_family, l.product_family) AS product_family,
    coalesce(u.unwound, 0) AS unwound,
    coalesce(l.is_waiting, false) AS is_waiting,
    i.accounting_date AS origin_date,
    CASE WHEN i.moved_date <= n.accounting_date THEN i.to_entity_id END AS moved_to,
    i.quantum,
    c.correlation_id,
    c.raw_ref,
    sum(c.amount + c.tax) OVER document AS up_to_here,
    sum(c.amount + c.tax) OVER (PARTITION BY n.source, n.source_id) AS lines_total,
    count(*) OVER (PARTITION BY n.source, n.source_id) AS line_count,
    row_number() OVER (PARTITION BY n.source, n.source_id ORDER BY c.source_id DESC) = 1 AS is_last
  FROM credit_note AS n
  JOIN credit_note_line AS c ON c.source = n.source AND c.credit_note_source_id = n.source_id AND NOT c.is_deleted
  JOIN run ON n.legal_entity_id = run.entity
  LEFT JOIN unwinding AS u ON u.kind = 'credit_note' AND u.source = c.source AND u.reduction_id = c.source_id
  LEFT JOIN ledger_line AS l ON l.source = c.source AND l.line_id = c.invoice_line_source_id
  LEFT JOIN ledger_invoice AS i ON i.source = n.source AND i.source_id = n.invoice_source_id
  WHERE n.status = 'issued' AND NOT n.is_deleted AND n.accounting_date >= run.go_live
  WINDOW document AS (PARTITION BY n.source, n.source_id ORDER BY c.source_id ROWS UNBOUNDED PRECEDING)
), credited_gross AS (
  SELECT
    *,
    CASE WHEN is_last THEN total - lines_total ELSE 0 END AS rounding,
    up_to_here + CASE WHEN is_last THEN total - lines_total ELSE 0 END AS gross_up_to_here,
    net + tax + CASE WHEN is_last THEN total - lines_total ELSE 0 END AS gross
  FROM credited_line
), credited AS (
  SELECT
    'credit_note:' || source || ':' || source_id AS event_id,
    'credit_note' AS event_type,
    document_id,
    number AS document_number,
    on_date AS event_date,
    currency,
    product_family,
    tax_code,
    net,
    tax,
    gross,
    unwound AS deferred,
    net - unwound AS recognised,
    -- the open amount takes the first lines, the customer's credit the rest
    least(gross, greatest(0, to_receivable - (gross_up_to_here - gross))) AS to_receivable,
    gross - least(gross, greatest(0, to_receivable - (gross_up_to_here - gross))) AS to_credit,
    rounding,
    CASE
      WHEN abs(units(total - lines_total)) > line_count * coalesce(quantum, run.functional_quantum) THEN 'the lines do not add up to the document''s total'
      WHEN product_family IS NULL THEN 'the credited product is not mapped to a family'
      WHEN is_waiting THEN 'the invoice it credits waits'
      WHEN moved_to IS NOT NULL THEN 'the invoice it credits moved to ' || moved_to || ': post it there by hand'
    END AS held_reason,
    origin_date,
    source, source_id, correlation_id, raw_ref
  FROM credited_gross, run
), voided AS (
  SELECT
    'void:' || l.source || ':' || l.line_id AS event_id,
    'void' AS event_type,
    l.document_id,
    l.number AS document_number,
    u.on_date AS event_date,
    l.currency,
    l.product_family,
    l.tax_code,
    u.net,
    u.tax,
    u.net + u.tax + l.rounding AS gross,
    u.unwound AS deferred,
    u.net - u.unwound AS recognised,
    u.net + u.tax + l.rounding AS to_receivable,
    0 AS to_credit,
    l.rounding,
    CASE
      WHEN l.is_contradictory THEN 'the lines do not add up to the document''s total'
      WHEN l.product_family IS NULL THEN 'product ' || coalesce(l.product_source_id, '(none)') || ' is not mapped to a family'
      WHEN l.moved_date <= u.on_date THEN 'the invoice moved to ' || l.to_entity_id || ': post it there by hand'
    END AS held_reason,
    l.invoice_date AS origin_date,
    l.source, l.line_id AS source_id, l.correlation_id, l.raw_ref
  FROM unwinding AS u
  JOIN ledger_line AS l ON l.source = u.source AND l.line_id = u.line_id
  CROSS JOIN run
  WHERE u.kind = 'void' AND u.on_date >= run.go_live
), tax_relief AS (
  -- tax on what was never paid, where the authority gives it back
  SELECT l.document_id, l.source, l.line_id, u.unwound, CASE WHEN run.tax_relief THEN u.tax ELSE 0 END AS relief
  FROM unwinding AS u
  JOIN ledger_line AS l ON l.source = u.source AND l.line_id = u.line_id
  CROSS JOIN run
  WHERE u.kind = 'uncollectible'
), written_off AS (
  SELECT
    'uncollectible:' || l.source || ':' || l.line_id AS event_id,
    'uncollectible' AS event_type,
    l.document_id, l.number AS document_number, l.uncollectible_date AS event_date, l.currency, l.product_family, l.tax_code,
    0 AS net, r.relief AS tax, r.unwound + r.relief AS gross, r.unwound AS deferred, 0 AS recognised,
    r.unwound + r.relief AS to_receivable, 0 AS to_credit, 0 AS rounding,
    CASE
      WHEN l.product_family IS NULL THEN 'product ' || coalesce(l.product_source_id, '(none)') || ' is not mapped to a family'
      WHEN l.moved_date <= l.uncollectible_date THEN 'the invoice moved to ' || l.to_entity_id || ': post it there by hand'
    END AS held_reason,
    l.invoice_date AS origin_date,
    l.source, l.line_id AS source_id, l.correlation_id, l.raw_ref
  FROM tax_relief AS r
  JOIN ledger_line AS l ON l.source = r.source AND l.line_id = r.line_id
  CROSS JOIN run
  WHERE l.uncollectible_date >= run.go_live AND (r.unwound <> 0 OR r.relief <> 0)
  UNION ALL
  SELECT
    'uncollectible:' || o.document_id,
    CASE run.write_off WHEN 'allowance' THEN 'uncollectible_allowance' ELSE 'uncollectible' END,
    o.document_id, o.number, o.uncollectible_date, o.currency, NULL, NULL,
    0, 0, o.open_amount - coalesce(d.covered, 0), 0, o.open_amount - coalesce(d.covered, 0),
    o.open_amount - coalesce(d.covered, 0), 0, 0,
    CASE WHEN o.moved_date <= o.uncollectible_date THEN 'the invoice moved to another entity: post it there by hand' END,
    i.accounting_date,
    o.source, o.source_id, o.correlation_id, o.raw_ref
  FROM given_up AS o
  JOIN ledger_invoice AS i USING (document_id)
  CROSS JOIN run
  LEFT JOIN (SELECT document_id, sum(unwound + relief) AS covered FROM tax_relief GROUP BY document_id) AS d
    ON d.document_id = o.document_id
  WHERE o.uncollectible_date >= run.go_live
), moved_line AS (
  -- the two halves of a change of the billing entity: given up here, taken over there, for the same amounts
  SELECT
    'transfer_out:' || l.source || ':' || l.line_id AS event_id, 'deferred_transferred_out' AS event_type,
    'transfer:' || l.document_id AS document_id, l.number, u.on_date, l.currency, l.product_family, u.unwound AS gross,
    l.invoice_date AS origin_date, l.is_waiting, l.source, l.line_id AS source_id, l.correlation_id, l.raw_ref
  FROM unwinding AS u
  JOIN ledger_line AS l ON l.source = u.source AND l.line_id = u.line_id
  CROSS JOIN run
  WHERE u.kind = 'transfer' AND u.on_date >= run.go_live
  UNION ALL
  SELECT
    'transfer_in:' || l.source || ':' || l.line_id, 'deferred_transferred_in',
    l.document_id, l.number, l.invoice_date, l.currency, l.product_family, l.net,
    l.invoice_date, false, l.source, l.line_id, l.correlation_id, l.raw_ref
  FROM ledger_line AS l, run
  WHERE l.is_taken_over AND l.invoice_date >= run.go_live
), moved_receivable AS (
  SELECT
    CASE WHEN m.from_entity = run.entity THEN 'transfer_out:' ELSE 'transfer_in:' END || m.document_id AS event_id,
    CASE WHEN m.from_entity = run.entity THEN 'receivable_transferred_out' ELSE 'receivable_transferred_in' END AS event_type,
    'transfer:' || m.document_id AS document_id, m.number, m.effective_date AS on_date, m.currency, m.open_amount AS gross,
    CASE WHEN m.from_entity = run.entity THEN m.invoice_date ELSE m.effective_date END AS origin_date,
    m.source, m.source_id, m.correlation_id, m.raw_ref
  FROM moved_invoice AS m, run
  WHERE m.open_amount <> 0 AND m.effective_date >= run.go_live
)
SELECT * FROM invoiced
UNION ALL SELECT * FROM empty_document
UNION ALL BY NAME SELECT * FROM credited
UNION ALL BY NAME SELECT * FROM voided
UNION ALL BY NAME SELECT * FROM written_off
UNION ALL BY NAME
SELECT event_id, event_type, document_id, number AS document_number, on_date AS event_date, currency, product_family, gross,
  origin_date, CASE WHEN is_waiting THEN 'its invoice waits' END AS held_reason, source, source_id, correlation_id, raw_ref
FROM moved_line
UNION ALL BY NAME
SELECT event_id, event_type, document_id, number AS document_number, on_date AS event_date, currency, gross,
  origin_date, source, source_id, correlation_id, raw_ref
FROM moved_receivable;
