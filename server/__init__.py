"""The server: HTTP and websocket face of the engine, and the durable queue."""
