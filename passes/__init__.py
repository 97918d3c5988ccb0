"""Relax passes of tvm_tinyml, one per file."""
