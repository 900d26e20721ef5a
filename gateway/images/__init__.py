"""Images: from what a client names to bytes that are known to be a whole, bounded image."""
