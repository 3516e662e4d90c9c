"""Networks and augmentation."""
