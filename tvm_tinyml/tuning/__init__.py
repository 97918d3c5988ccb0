"""Tuning: which choice makes the cheapest kernel of an operator is measured, and kept in a log."""
