"""What every request passes: the gate, bodies, answers, errors."""
