"""Dialects of model servers: pure codecs between `gateway.types` and the bytes of a protocol; no socket, no clock."""
