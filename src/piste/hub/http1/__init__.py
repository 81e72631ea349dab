"""HTTP/1.1 on a plain socket: the server of everything that is not TLS."""
