"""Murmuration: one agent, its policy in numpy and the process around it."""
