"""Stands in for setuptools; see standin.py."""
