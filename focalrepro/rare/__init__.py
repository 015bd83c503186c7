"""Focal loss beyond detection: rare events in tables and small images, the positive rate as the axis.

The way of the data: `data` (tables, splits at a rate) → `models` (networks and `trees`, one row of `metrics` per
seed) → `verdicts` (intervals and sentences) → `figures`, and `command` for the terminal.
"""
