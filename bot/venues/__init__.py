"""The languages: sans-I/O codecs, one folder a venue. Imports domain."""
