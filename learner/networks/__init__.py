"""The torch twins of agents/networks: one file each, under the same names."""
