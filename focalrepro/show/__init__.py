"""Figures, tables for the eye, sentences, pages: what readers see of records and evidence."""
