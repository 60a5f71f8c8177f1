"""What a study says, in words, tables and pictures: rebuilt from its records, wherever they were kept."""
