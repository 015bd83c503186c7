"""Tables of records, differences, claims and verdicts: numbers only, no Markdown."""
