"""Training as nodes: data sets, the loop with its explicit state, and what is trained.

A training is a node like a sampler: its state (weights, optimiser, averages, step) is data, all randomness is a
function of (seed, step, image, purpose), and the order of the images one of (seed, epoch). So a training that was
stopped anywhere ends with the same bits.
"""
