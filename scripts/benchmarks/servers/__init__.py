"""Servers under test: ours, rivals, and the bare framework."""
