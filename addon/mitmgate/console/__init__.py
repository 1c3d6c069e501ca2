"""What operators see of a running gateway: the admin port and the pages it serves."""
