"""Tests of transcripts of other clients, and of their import."""
