"""Commands that compare finished runs: tables, curves and figures of the papers."""
