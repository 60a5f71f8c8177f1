"""Finds the Ambient Diffusion settings that copy the training set least at the same image quality."""
