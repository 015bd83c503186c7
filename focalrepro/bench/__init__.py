"""`focalrepro bench`: speed against torchvision's RetinaNet and losses and pycocotools, in one run."""
