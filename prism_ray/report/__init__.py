"""Answers from tracked trials: pure functions to tables, tables to figures, and both to one page.

Importing this package loads nothing heavy; `prism_ray.report.build.write_report` is its entry.
"""
