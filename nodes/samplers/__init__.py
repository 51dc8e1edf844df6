"""Samplers: schedules, noise, steppers and the loop around them. `table` lists them; `names` imports no torch."""
