"""The language of a text, held against sentences of eleven languages about the same thing."""

import pytest

from werkmeister.corpus.documents.language import detect_language

SENTENCES = {
    "en": "Before you open the cover, switch the machine off and wait until all parts have stopped moving.",
    "de": "Bevor Sie die Abdeckung öffnen, schalten Sie die Maschine aus und warten Sie, bis alle Teile stillstehen.",
    "fr": "Avant d'ouvrir le capot, arrêtez la machine et attendez que toutes les pièces soient à l'arrêt.",
    "es": "Antes de abrir la tapa, apague la máquina y espere hasta que todas las piezas se hayan parado por completo.",
    "it": "Prima di aprire il coperchio, spegnere la macchina e attendere che tutte le parti siano ferme nella cassa.",
    "nl": "Voordat u het deksel opent, zet u de machine uit en wacht u tot alle delen van het toestel stilstaan.",
    "pt": "Antes de abrir a tampa, desligue a máquina e espere até que todas as peças estejam paradas.",
    "sv": "Innan du öppnar locket ska du stänga av maskinen och vänta till dess att alla delar har stannat.",
    "da": "Inden du åbner dækslet, skal du slukke for maskinen og vente, til alle dele er standset.",
    "pl": "Przed otwarciem pokrywy należy wyłączyć maszynę i poczekać, aż wszystkie części się zatrzymają.",
    "cs": "Než otevřete kryt, vypněte stroj a počkejte, až se všechny části zastaví, protože jinak může dojít k úrazu.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_tells_its_language(language):
    assert detect_language(SENTENCES[language]) == language


@pytest.mark.parametrize(
    "text",
    ["", "12 34 56", "G1 X10 Y20 F300", "| M3 | 100 |", "日本語の文章です。", "Pump", "loadrt stepgen"],
)
def test_what_holds_no_running_text_has_no_language(text):
    assert detect_language(text) == ""


def test_code_within_german_text_does_not_make_it_english():
    text = "Geben Sie den Befehl ein, damit die Datei in den Ordner kopiert wird:\n`cp the file to the folder and wait`"
    assert detect_language(text) == "de"
