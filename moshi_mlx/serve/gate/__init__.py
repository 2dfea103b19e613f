"""Who may connect, how much they may send, and who has to wait."""
