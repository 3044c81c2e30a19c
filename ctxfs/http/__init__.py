"""Parts that all HTTP servers of ctxfs share: limits, addresses, bodies, and connections to the daemon. No route is here."""
