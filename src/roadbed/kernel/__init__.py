"""Ground floor: errors, configuration decoding, clock, ids, deadlines and the value types that every room shares.

Imports only the standard library, msgspec and PyYAML; does no I/O but reading the files that a configuration names.
"""
