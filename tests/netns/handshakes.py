"""A client that opens a new TLS connection as soon as the last one is over, asks one thing, and counts what failed. Ends at SIGTERM with one line of JSON.

    handshakes.py PORT NAME CA_FILE [CERTIFICATE KEY]

Files are read anew for each connection, as Prometheus reads them.
"""

import json
import signal
import socket
import ssl
import sys


def main():
    port, name, ca_file, *pair = sys.argv[1:]
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    count, failures, serials, examples = 0, 0, set(), {}
    while running:
        try:
            context = ssl.create_default_context(cafile=ca_file)
            if pair:
                context.load_cert_chain(*pair)
            with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as plain, context.wrap_socket(plain, server_hostname=name) as connection:
                serials.add(connection.getpeercert()["serialNumber"])
                # In TLS 1.3 a refusal of the client's certificate comes after the handshake.
                connection.sendall(f"GET /-/healthy HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                if not connection.recv(64).startswith(b"HTTP/1.1 200"):
                    raise OSError("no answer")
            count += 1
        except OSError as error:
            failures += 1
            examples[str(error)[:120]] = examples.get(str(error)[:120], 0) + 1
    print(json.dumps({"count": count, "failures": failures, "serials": len(serials), "examples": examples}), flush=True)


main()
