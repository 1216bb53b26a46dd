"""What to say to a message that asks nothing of the documents: a greeting, thanks, "what can you do?", or no word.

Asked only where the documents gave no answer, so a question that happens to hold such words loses nothing. Pure; the
copilot calls it. The invariant: one further word makes a message a question again.
"""

from __future__ import annotations

import re

ASK = "Ask me a question about these documents: I quote what they say, and name the place."
WELCOME = f"You are welcome. {ASK}"
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_HELLO = (
    "hello hi hey hiya howdy there good morning afternoon evening day how are you greetings test testing ping help "
    "hallo guten tag morgen abend moin servus bonjour salut bonsoir hola buenos buenas dias días tardes ciao hei"
)
_THANK_YOU = (
    "thanks thank you thx ty very much so a lot many great cool nice ok okay perfect bye goodbye see cheers "
    "danke schön vielen dank merci beaucoup gracias muchas tschüss ciao adiós"
)
_WHAT_CAN_YOU_DO = "what can you do for me help with who are is this how does it work"
_GREETINGS, _THANKS, _ABOUT_ITSELF = (frozenset(text.split()) for text in (_HELLO, _THANK_YOU, _WHAT_CAN_YOU_DO))


def small_talk(message: str) -> str | None:
    """The reply to a message that is nothing but small talk; None for any other."""
    words = [word.casefold() for word in _WORD.findall(message)]
    known = (_GREETINGS, ASK), (_THANKS, WELCOME), (_GREETINGS | _THANKS, ASK)
    for vocabulary, reply in known:
        if vocabulary.issuperset(words):
            return reply
    return ASK if "you" in words and _ABOUT_ITSELF.issuperset(words) else None
