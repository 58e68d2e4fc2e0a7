"""Werkmeister makes a private, measured expert out of a small language model."""

__version__ = "0.1.0"
