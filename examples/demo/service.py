"""A look at the service that the host runs, from outside."""

import http.client
import re


def page_title(port: int) -> str:
    """The first heading of the page, or what came instead."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        found = re.search(r"<h1>(.*?)</h1>", answer.read().decode())
    except OSError as error:
        return f"nothing ({error.strerror})"
    finally:
        connection.close()
    return found[1] if found else f"status {answer.status}"
