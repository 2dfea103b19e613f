"""Wyoming, the protocol of Home Assistant's voice services: events over TCP.

Source: github.com/OHF-Voice/wyoming, and Home Assistant's ``wyoming`` integration.
"""
