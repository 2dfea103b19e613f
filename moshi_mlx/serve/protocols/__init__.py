"""The protocols that the server speaks, one package each."""
