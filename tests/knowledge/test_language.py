"""Language of a document: told from enough text, English otherwise."""

from __future__ import annotations

import pytest

from roadbed.knowledge.language import detect_language

TEXTS = {
    "en": """The contract may be ended by either party with a notice of three months. If the supplier does not deliver
in time, the customer has the right to withdraw from the order and to ask for what has been paid to be returned.""",
    "de": """Der Vertrag kann von jeder Partei mit einer Frist von drei Monaten gekündigt werden. Wenn der Lieferant
nicht rechtzeitig liefert, hat der Kunde das Recht, von der Bestellung zurückzutreten und sein Geld zu verlangen.""",
    "fr": """Le contrat peut être résilié par chaque partie avec un préavis de trois mois. Si le fournisseur ne livre
pas à temps, le client a le droit de se retirer de la commande et de demander le remboursement de ce qu'il a payé.""",
    "es": """El contrato puede ser terminado por cualquiera de las partes con un aviso de tres meses. Si el proveedor no
entrega a tiempo, el cliente tiene derecho a retirarse del pedido y a pedir la devolución de lo que ha pagado.""",
    "it": """Il contratto può essere disdetto da ciascuna delle parti con un preavviso di tre mesi. Se il fornitore non
consegna in tempo, il cliente ha il diritto di ritirarsi dall'ordine e di chiedere la restituzione di quanto pagato.""",
    "pt": """O contrato pode ser rescindido por qualquer das partes com um aviso de três meses. Se o fornecedor não
entregar a tempo, o cliente tem o direito de desistir da encomenda e de pedir a devolução do que já foi pago.""",
    "nl": """Het contract kan door elke partij worden opgezegd met een termijn van drie maanden. Als de leverancier niet
op tijd levert, heeft de klant het recht om van de bestelling af te zien en zijn geld terug te vragen.""",
    "sv": """Avtalet kan sägas upp av båda parter med en frist på tre månader. Om leverantören inte levererar i tid har
kunden rätt att dra sig ur beställningen och att begära att det som redan har betalats ska lämnas tillbaka.""",
    "pl": """Umowa może być rozwiązana przez każdą ze stron z zachowaniem trzech miesięcy. Jeżeli dostawca nie dostarczy
towaru na czas, klient ma prawo odstąpić od zamówienia i żądać zwrotu tego, co już zostało przez niego zapłacone.""",
    "fi": """Sopimus voidaan irtisanoa kolmen kuukauden ajalla, ja se on voimassa siihen asti. Jos toimittaja ei toimita
ajoissa, asiakas voi perua tilauksen, ja hän saa takaisin sen, mitä on jo maksettu, kun hän on sitä pyytänyt.""",
    "ru": "Договор может быть расторгнут любой из сторон.",
    "uk": "Договір може бути розірваний будь-якою зі сторін, і це їхнє право.",
    "el": "Η σύμβαση μπορεί να καταγγελθεί.",
    "ja": "この契約は三か月前の通知により解除することができます。",
    "zh": "任何一方均可提前三个月通知终止本合同。产品 iPhone",
    "ko": "계약은 삼 개월 전에 통지하여 해지할 수 있습니다.",
    "ar": "يجوز إنهاء العقد من قبل أي طرف.",
    "th": "สัญญาสามารถยกเลิกได้",
    "hi": "अनुबंध समाप्त किया जा सकता है।",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_detects(language: str, text: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize("text", ["", "Rechnung offen", "12345 " * 100, "xyzzy plugh " * 50, "東"])
def test_short_and_unknown_text_is_english(text: str) -> None:
    assert detect_language(text) == "en"


def test_language_names_in_english_prose_do_not_decide() -> None:
    assert detect_language(TEXTS["en"] + " The Tokyo office (東京) and the word Straße appear here.") == "en"
