"""The eyes: read-only. Imports domain."""
