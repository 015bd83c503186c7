"""Evaluation: detections, matching to objects, AP, the bootstrap, calibration."""
