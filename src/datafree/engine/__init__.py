"""The student's training loop, and the interface of the methods that it trains with."""
