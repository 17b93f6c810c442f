"""Schemas of the data, kept as files of the package."""
