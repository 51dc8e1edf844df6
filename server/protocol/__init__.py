"""The data on the wire: bodies, queries, answers and websocket messages, as models."""
