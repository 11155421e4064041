"""Hosts of a run beyond this machine: their table, bundles and bodies."""
