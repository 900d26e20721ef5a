"""Hosts that load models on demand: what they list, which of them is asked, why none can be."""
