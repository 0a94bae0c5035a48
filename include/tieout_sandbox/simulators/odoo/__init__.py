"""A simulator of Odoo's accounting over both of its wires: there is no Odoo in the package registries to run instead.

It speaks the documented formats (JSON-RPC `execute_kw`; JSON-2 from 19 on) for the models a ledger needs, with what is
known to surprise: errors inside HTTP 200, no `result` for a method that returns nothing, amounts as JSON floats, dates
moved past a lock date instead of a refusal, the same reference posted twice, `load` that reports errors as success,
`action_post` that answers with a dialogue. It is no Odoo: behaviour that is not modelled here is not proved here.
"""
