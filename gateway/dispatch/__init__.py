"""Admission and dispatch: who may come in, which worker takes it, what happens when one fails."""
