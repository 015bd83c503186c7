"""Training: criteria, mining, batches, the step, the loop."""
