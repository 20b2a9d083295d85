"""Thin scripts, a figure each; run from the repository root with `python -m analysis.NAME`."""
