"""What journeys are made of: scripted upstreams, the real gateway as a subprocess, real clients and bare wires."""
