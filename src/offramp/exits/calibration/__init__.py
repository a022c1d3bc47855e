"""How policies are fitted: to a budget of operations, to a measured latency, to a risk."""
