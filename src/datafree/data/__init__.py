"""Images that students are distilled on, and labelled data for training teachers and evaluating networks."""
