"""Focal loss beyond detection: rare events in tables and small images, the positive rate as the axis.

The way of the data: `data` (tables, splits at a rate) → `models` (networks and trees, a row of `metrics`
for each seed) → `verdicts` (intervals and sentences) → `figures`, and `command` for the terminal.
"""
