"""Who may do what where: rules, and one pure function over them. Knows no mounts, no sockets and no files but their names."""
