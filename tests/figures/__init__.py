"""The numbers of docs/verification.md, measured: `python -m tests.figures` (make figures)."""
