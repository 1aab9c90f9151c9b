"""Where tokens, budgets and quarantines are shared: memory, a directory, Redis."""
