"""The hands: clocks, files and sockets. Imports core, venues, sim, journal and domain."""
