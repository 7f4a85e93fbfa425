"""What a network factory is told."""

Shape = tuple[int, int, int]  # channels, height, width
