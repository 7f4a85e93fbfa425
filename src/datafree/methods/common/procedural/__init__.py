"""Pictures by procedure: random shapes, textures and programs that no photograph has gone into, one family a file."""
