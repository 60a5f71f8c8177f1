"""Errors that a user can cause and mend: one class a cause, one clear sentence each."""


class UserError(Exception):
    """Bad input. Entry points print it as one sentence and exit with code 2, before anything expensive starts."""
