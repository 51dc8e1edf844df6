"""Programs on graphs: pure functions of workflows."""
