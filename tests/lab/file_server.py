#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A backend's file server: file_server.py PORT NAME FILE.

GET /file answers with the file, /paced with the same in 20 pieces of 0.1 s each, any other GET with
the backend's name. POST answers with the SHA-256 of what it was sent, so that the sender can tell
whether it arrived whole.
"""

import hashlib
import http.server
import socket
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path not in ("/file", "/paced"):
            self.answer(f"{self.server.name}\n".encode())
            return
        with open(self.server.file, "rb") as file:
            self.answer(file.read(), pieces=20 if self.path == "/paced" else 1)

    def do_POST(self):
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left > 0:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        self.answer(digest.hexdigest().encode())

    def answer(self, body, pieces=1):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        step = -(-len(body) // pieces)
        for begin in range(0, len(body), step):
            self.wfile.write(body[begin:begin + step])
            time.sleep(0.1 if pieces > 1 else 0)

    def log_message(self, format, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4 mapped into it
    daemon_threads = True
    request_queue_size = 128


def main():
    server = Server(("::", int(sys.argv[1])), Handler)
    server.name, server.file = sys.argv[2:4]
    server.serve_forever()


main()
