"""Opponents that are trained here, and their use as teachers."""
