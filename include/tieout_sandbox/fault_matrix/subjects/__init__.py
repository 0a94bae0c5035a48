"""The adapters of the fault matrix, a module each with its `SUBJECT`."""
