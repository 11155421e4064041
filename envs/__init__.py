"""Murmuration: environments, their copies and their opponents."""
