"""Parsing: bytes of any office format in, one canonical text with blocks out, in a limited subprocess.

``document`` holds the result types, ``pool`` the only way that the server parses, ``dispatch`` the same thing in
process (the worker, tests and benches call it). One file per format; a format's library is imported only when a
file of it arrives. The invariant: for any bytes the outcome is a `ParsedDocument` or a `ParseFailure` with a stable
reason, and never anything else.
"""
