"""Parts that several methods share: inversion, generators, losses, textures, feature matching, diffusion."""
