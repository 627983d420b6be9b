"""The parts of gpu.py; each has `rows(device, small)`, which yields what it found."""
