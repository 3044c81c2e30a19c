"""Ingestion: keep the engines consistent with the files of the sources."""
