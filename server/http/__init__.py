"""The layers that every request passes: the gate, bodies, answers, errors."""
