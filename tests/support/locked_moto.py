# moto, with one request for an object at a time: locked_moto.py -H HOST -p PORT
#
# moto by itself looks at a condition and then writes, and writes the content and then its metadata,
# with other requests in between: of some 400 races of two writers both win one. S3 does each as one.
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
