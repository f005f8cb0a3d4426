"""What every request passes on its way in and out, as pure ASGI: streams and cancellation pass."""
