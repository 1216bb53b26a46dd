"""The way back through the guard: the order in which restored pieces and other events reach the caller."""

from __future__ import annotations

from roadbed.gateway.masking import Unmasker
from roadbed.gateway.types import ReasoningDelta, ReasoningPart, ReasoningSealed
from roadbed.guard.finding import EMAIL
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.principal import Principal


def test_reasoning_is_restored_before_it_is_sealed(guard: Guard) -> None:
    vault = Vault()
    token = vault.token_for(EMAIL, "kari@example.com")
    unmasker = Unmasker(guard, vault, Principal(id="key-1", team="support"))
    shown = unmasker.feed(ReasoningDelta(f"Ask {token}"))
    sealed = ReasoningSealed(ReasoningPart("anthropic", f"Ask {token}", "seal"))
    after = unmasker.feed(sealed)
    assert after[-1] == sealed
    text = "".join(event.text for event in (*shown, *after) if isinstance(event, ReasoningDelta))
    assert text == "Ask kari@example.com"
