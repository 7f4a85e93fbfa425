"""What can be known of a student without real images: probes, what two networks answer to them, and what follows."""
