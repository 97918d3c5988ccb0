"""Targets: what a core can do, how it is scheduled for, how its code is written out."""
