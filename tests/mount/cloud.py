"""Stubs at the very addresses of the clouds, for a network namespace where nobody else is.

Arguments: a log, a certificate, its key. On 169.254.169.254:80 it is the metadata address of every
provider and gives out a token; on 127.0.0.1:443 it is Google's and Azure's store, and wants it.
Each request is one line of the log.
"""

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG, CERTIFICATE, KEY = sys.argv[1:]
GOOGLE = b"<ListBucketResult></ListBucketResult>"
AZURE = b"<EnumerationResults><Blobs/></EnumerationResults>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def note(self, *words):
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(" ".join([*words, self.headers["Host"], self.command, self.path]) + "\n")

    def log_message(self, *_):
        pass


class Metadata(Handler):
    def do_GET(self):
        self.note("metadata")
        google = self.headers["Metadata-Flavor"] == "Google"
        if not google and self.headers["Metadata"] != "true":
            return self.answer(403, b"{}")
        token = {"access_token": "s3cret-google" if google else "s3cret-azure"}
        # Azure sends numbers as strings.
        token.update({"expires_in": 3600} if google else {"expires_on": "4102444800"})
        self.answer(200, json.dumps(token).encode())

    do_PUT = do_POST = do_GET


class Store(Handler):
    def do_GET(self):
        self.note("store")
        google = "google" in self.headers["Host"]
        token = "s3cret-google" if google else "s3cret-azure"
        if self.headers["Authorization"] != "Bearer " + token:
            return self.answer(401, b"<Error><Code>Unauthorized</Code></Error>")
        if "store" in self.path.rsplit("2F", 1)[-1].rsplit("/", 1)[-1]:
            return self.answer(404, b"<Error><Code>%s</Code></Error>" % (b"NoSuchKey" if google else b"BlobNotFound"))
        self.answer(200, GOOGLE if google else AZURE)


def serve(address, handler, wrap=None):
    server = ThreadingHTTPServer(address, handler)
    if wrap:
        server.socket = wrap.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
serve(("169.254.169.254", 80), Metadata)
serve(("127.0.0.1", 443), Store, context)
