"""Tools: definitions, providers, approvals, calls and the sandbox."""
