"""The web server: Moshi in the browser, and the protocols of many clients."""
