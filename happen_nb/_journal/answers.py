"""What the answers and errors of a server mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nats.errors

from happen_nb.errors import HappenConnectionError, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.msg import Msg

SEQUENCE = "Nats-Sequence"
"""A header of each stored message that is the answer to a direct get."""
_AGAIN_CODES = (b'"err_code":10008,', b'"err_code":10164,')
"""JetStream, or the expected sequence of a subject, is not available for the moment."""


def is_refusal(error: Exception) -> bool:
    """Return whether a server has refused the credentials."""
    text = str(error).lower()
    return "authorization" in text or "authentication" in text


def ask_again(answer: Msg) -> bool:
    """Return whether the server could not take a call at the moment, and certainly has not."""
    if answer.headers:  # a stored message may have any header, and then it has its sequence too
        return answer.headers.get("Status") == "503" and SEQUENCE not in answer.headers
    return is_unavailable(answer)


def is_unavailable(answer: Msg) -> bool:
    """Return whether JetStream is not available for the moment: nobody leads, or something is under way."""
    return any(code in answer.data for code in _AGAIN_CODES)


def server_error(what: str, error: dict[str, Any]) -> ServerError:
    """An error that the server gave, in words for a person."""
    text = error.get("description", "unknown error")
    hint = "; is its disk full?" if error.get("err_code") in (10047, 10077, 10023, 10028) else ""
    return ServerError(f"{what}: the server refused ({error.get('err_code')}: {text}){hint}")


def explain(
    where: str, error: BaseException, problems: Sequence[Exception], timeout: float
) -> HappenConnectionError:
    """Explain to a person why there is no connection, and what to do."""
    newest = problems[-1] if problems else error
    seen = " ".join(str(problem) for problem in (*problems, error)).lower()
    if is_refusal(Exception(seen)) or "nkeys" in seen:
        what = "the server does not accept these credentials; check token, user and password, or credentials"
    elif isinstance(error, nats.errors.NoRespondersError) or "no responders" in seen:
        what = "this server has no JetStream; start it with 'nats-server -js'"
    elif "tls" in seen or "ssl" in seen or "certificate" in seen:
        what = f"no TLS connection ({newest}); give tls=ssl.create_default_context(...)"
    elif isinstance(error, TimeoutError) and not problems:
        what = f"no answer within {timeout:g} s; is it the right address?"
    else:
        what = f"no server there ({newest}); is it running?"
        if not re.search(r"[.:/]", where):
            what += f' To name a space write connect(name="{where}")'
    return HappenConnectionError(f"{where}: {what}")
