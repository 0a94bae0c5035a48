"""The lake: versioned table snapshots, landed raw pages, the engine that works on them.

Nothing is imported here, so that a DAG file that names the package pays for nothing.
"""
