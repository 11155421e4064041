"""Centralised policies that decide for one agent after the other: they guide, or act themselves."""
