"""The decision: pure and synchronous. Imports market and domain."""
