"""What a token, a request and an open stream cost, here and at this service's peers: `make bench`."""
