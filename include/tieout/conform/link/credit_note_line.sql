-- What a credit note line credits: product, service period and tax code of the invoice line.
SELECT m.* REPLACE (
  l.product_id AS product_id,
  l.product_source_id AS product_source_id,
  l.product_family AS product_family,
  coalesce(m.tax_code, l.tax_code) AS tax_code,
  l.period_start AS period_start,
  l.period_end AS period_end
)
FROM merged_credit_note_line m
LEFT JOIN invoice_line l ON l.source = m.source AND l.source_id = m.invoice_line_source_id
