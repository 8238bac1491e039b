"""Mutation testing: break the code on purpose, one change at a time, and see that a test fails.

`python -m tests.mutation` (make mutants) runs every mutant; tests/test_mutants.py runs a sample.
"""
