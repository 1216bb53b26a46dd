"""English verbs with a particle that are written as one word too: ``back up`` and ``backup``, ``log in`` and ``login``.

The particle alone is a stop word, so without this the two spellings do not meet. Only pairs that people write as one
word are known: any verb beside any particle would fill the index with what nobody looks for. Pure; the analyzer asks,
and a changed list is a new version of the analyzer.
"""

from __future__ import annotations

_PARTICLES_OF = {
    "up": "back blow break build check clean clear close cover follow hang hold hook line link lock look make mark mix "
    "mock pick pile pin pop push ramp roll round set shake sign slip speed stand start tune warm wrap wind write",
    "in": "break build buy check cut drop fill log mix opt plug sign stand tie trade",
    "out": "black blow break burn buy call carve check drop fade fall hand hang hide knock lay lock log look opt pay "
    "phase print pull push read roll sell shut sign time try turn walk wash wipe work",
    "off": "blast cast cut drop hand kick lay log pay play rip run send show shut sign spin stand take tip trade turn "
    "write",
    "down": "break build climb cool count crack draw drop let lock melt run scale shake show shut sit slow stand "
    "step take tear touch turn write",
    "on": "add carry clip log plug sign roll try",
    "back": "buy call clip draw fall hold pay play pull push roll set throw write",
    "over": "carry change cross cut fail fly hand hang lay make pull push roll sleep spill stop switch take turn walk",
}
PARTICLES = frozenset(_PARTICLES_OF)
ONE_WORD = {(verb, particle): verb + particle for particle, verbs in _PARTICLES_OF.items() for verb in verbs.split()}
"""``("back", "up")`` to ``backup``; the verbs in their first form."""
