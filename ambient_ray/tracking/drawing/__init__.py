"""The pictures of a rung, and of a study's models beside each other."""
