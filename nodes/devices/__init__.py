"""Devices: number formats, a pool of weights with a budget, and one loop for all forward passes of a device.

`use.open_device(settings)` is the way in. Nothing here imports torch before something is computed but `environment` and
`device`, which never need it where the answer is known.
"""
