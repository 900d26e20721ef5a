"""Which sequence is prefilled or decoded next, and what it draws."""
