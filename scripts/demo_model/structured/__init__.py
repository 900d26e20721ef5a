"""Answers that have a form: JSON of a schema, calls of tools; and requests that look like them."""
