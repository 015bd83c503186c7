"""`focalrepro bench`: speed against torchvision's own RetinaNet and losses and against pycocotools, in one run."""
