"""Contexts: requests, construction within a token budget, rendering, manifests, delivery, grounding of responses."""
