"""Murmuration: the options of a run, their presets, and the policies that come with it."""
