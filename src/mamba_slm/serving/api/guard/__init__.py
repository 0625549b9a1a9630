"""What stands between the network and the routes: hosts, keys, limits, time, and a record of every request.

Plain ASGI middlewares and small objects around them, from the outside in: `records` (ids, log), `hosts` (DNS
rebinding), CORS where it was asked for, `access` (keys, limits per key), `exchange` (bodies, time, clients that leave).
`connections` is below them: sockets that are slow, idle or too many. `install` puts them around an application.
"""
