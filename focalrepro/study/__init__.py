"""Paper's numbers, profiles, ablations, records and their store, the campaign that makes them."""
