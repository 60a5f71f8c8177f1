"""The audit of a generator: what it looks at, the scores, the gate, and what is said and written about them."""
