"""Hostile input, one module a kind: what is generated, how it is read, and what must hold of what was accepted."""
