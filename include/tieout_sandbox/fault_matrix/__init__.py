"""Every ERP adapter under every fault: what an adapter registers, the line that fails on request, the ERP that lies.

`subjects/<name>.py` registers an adapter (`subject` says how); `line` is the loopback proxy between adapter and server;
`lying` the wrapper around a ledger. The tests in `tests/faults/posting` run the whole matrix for each registered one.
"""
