"""What a student looks at, and the labelled data that judges it."""
