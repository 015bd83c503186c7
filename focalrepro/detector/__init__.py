"""The detector: anchors, boxes, matching, backbones, RetinaNet, and what is kept of a frozen backbone."""
