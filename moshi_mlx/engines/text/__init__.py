"""Models that write text: Helium."""
