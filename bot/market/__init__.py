"""The book: compiled kernels that the core and the simulated world share. Imports domain."""
