"""Access control: rules of principals, paths and permissions, and one pure decision function over them.

This package has no mounts and no sockets. The only files that it reads are those of rules, credentials, owners and the
rule history.
"""
