"""The models: a folder that loads anywhere, the registry of its versions, and what they are loaded by."""
