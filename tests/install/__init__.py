"""Test the built package in clean environments."""
