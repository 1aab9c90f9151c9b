"""`run --workers N`: several processes that are one sidecar. Imported for N > 1 only."""
