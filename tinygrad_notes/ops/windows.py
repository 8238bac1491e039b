"""Functions of neighbours and of order: cumulative, sorted, padded, convolved, interpolated."""
