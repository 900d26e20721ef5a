"""A host: which models may be loaded, what each takes, and which stay when memory runs short."""
