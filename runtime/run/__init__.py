"""One run from its start to its summary, as the launcher sees it."""
