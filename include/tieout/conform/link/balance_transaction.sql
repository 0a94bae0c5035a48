-- The payout that carries a balance transaction, from the payouts' own lists; a payout does not carry itself.
SELECT m.* REPLACE (p.payout_source_id AS payout_source_id)
FROM merged_balance_transaction m
LEFT JOIN merged_payout_transaction p ON p.source = m.source AND p.source_id = m.source_id AND p.type <> 'payout'
