"""Diffusion models that make variations of an image."""
