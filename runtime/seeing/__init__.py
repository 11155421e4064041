"""Seeing an episode: a trace of it, pictures, films and a page that plays it."""
