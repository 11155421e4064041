"""What policy-gradient algorithms have in common: advantages, clipped ratios, a guide's losses."""
