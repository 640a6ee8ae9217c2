"""Free loopback ports, below the ephemeral range so that no outgoing connection takes one meanwhile."""

import random
import socket

_given = set()


def free_ports(count):
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        ephemeral_low = int(f.read().split()[0])
    low, high = (12000, ephemeral_low - 1) if ephemeral_low > 14000 else (61000, 65000)
    found = []
    while len(found) < count:
        port = random.randint(low, high)
        if port in _given:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        found.append(port)
    return found
