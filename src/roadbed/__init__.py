"""Roadbed: the paved road for production AI. One manifest, one server, one database, one command line."""

__version__ = "0.1.0"
