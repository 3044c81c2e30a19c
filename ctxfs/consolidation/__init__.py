"""Proposals that merge, archive or create memories: rules, the law that they keep, promotion and correction."""
