"""Schedules: in which order a kernel computes. A rule per idea, an ordered list of rules per core family."""
