"""Our engine and `BatchGenerator` without any server around them."""
