"""Context construction: candidates, packing to the token budget, rendering, manifest."""
