"""What `scripts/serve` does: flags, ports, both tiers under honcho, a line when they are ready."""
