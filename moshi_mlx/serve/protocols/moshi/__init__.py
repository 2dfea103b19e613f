"""Moshi's own WebSocket protocol, `/api/chat`."""
