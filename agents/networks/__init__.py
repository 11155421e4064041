"""Networks of a policy: encoder and memory in front of the scheme. One file each, found by name."""
