# moto, with one request for an object at a time: locked_moto.py -H HOST -p PORT
#
# moto itself checks a condition and then writes, and writes the content and then its metadata.
# Other requests can come in between: in one of some 400 races, both writers win. S3 does each in
# one step.
import sys
import threading

from moto.s3.responses import S3Response
from moto.server import main

one_at_a_time = threading.RLock()


def locked(method):
    def call(*args, **kwargs):
        with one_at_a_time:
            return method(*args, **kwargs)

    return call


for name in ["_key_response_put", "_key_response_get", "_key_response_delete", "head_object"]:
    setattr(S3Response, name, locked(getattr(S3Response, name)))

sys.exit(main())
