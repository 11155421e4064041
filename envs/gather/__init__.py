"""Gather: agents around a field of food, on MAgent2."""
