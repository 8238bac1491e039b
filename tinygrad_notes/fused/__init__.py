"""Kernels: fast pairs of forward and backward on raw arrays, each beside a twin in plain NumPy. One file a kernel."""
