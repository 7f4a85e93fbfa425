"""Smaller networks for a teacher: requests for a size, the architectures that come into question, and the choice of one."""
