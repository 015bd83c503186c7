"""The detector: anchors, boxes, their matching, backbones,
RetinaNet and what is computed once of a frozen backbone.
"""
