"""What lies inside a network: values, statistics, costs, health."""
