"""Attacks by agents, files, servers, remotes and neighbours, one kind a file."""
