"""Moshi in the browser, and for every existing client of its WebSocket protocol."""
