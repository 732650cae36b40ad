"""Curves of a training, drawn in the terminal or into an image."""
