"""The page at `/`: its files, and the live figures that it shows."""
