"""HTTP on both sides: the server's protocol, the upstream client, server-sent events, drain. No product words."""
