"""Diffusion models that re-render an image into variations of it."""
