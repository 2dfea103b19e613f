"""A conversation: sessions, the thread that runs them, and the live loop."""
