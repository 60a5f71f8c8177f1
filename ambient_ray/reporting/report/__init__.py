"""A study's report: its content, as a page and as a PDF."""
