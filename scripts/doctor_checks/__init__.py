"""What `scripts/doctor` looks at. Only Python's own library: it works when nothing else does."""
