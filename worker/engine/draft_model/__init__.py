"""A smaller model that drafts for the one that is served."""
