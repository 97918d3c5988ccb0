"""Generators of innermost loops: assembly with registers allocated by hand, and C that computes the same."""
