"""The pictures of a whole study, from its records."""
