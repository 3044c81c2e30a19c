"""The identity of the client of an HTTP server, as the daemon binds a connection to it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Access:
    """The principal that a client acts for (empty: the store's owner), or the credential that determines it."""

    principal: str = ""
    token: str = field(default="", repr=False)

    @property
    def is_owner(self) -> bool:
        """True for the store's owner, who may look at the tree as any principal."""
        return not self.principal and not self.token
