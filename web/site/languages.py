"""English names of Tesseract's languages."""

from __future__ import annotations

#: Tesseract's codes (tesseract-ocr/tessdata), mostly ISO 639-2/T.
_NAMES = dict(
    pair.split(" ", 1)
    for pair in """afr Afrikaans|amh Amharic|ara Arabic|asm Assamese|aze Azerbaijani
aze_cyrl Azerbaijani (Cyrillic)|bel Belarusian|ben Bengali|bod Tibetan|bos Bosnian|bre Breton
bul Bulgarian|cat Catalan|ceb Cebuano|ces Czech|chi_sim Chinese (simplified)
chi_sim_vert Chinese (simplified, vertical)|chi_tra Chinese (traditional)
chi_tra_vert Chinese (traditional, vertical)|chr Cherokee|cos Corsican|cym Welsh|dan Danish
dan_frak Danish (Fraktur)|deu German|deu_frak German (Fraktur)|deu_latf German (Fraktur)
div Dhivehi|dzo Dzongkha|ell Greek|eng English|enm English (middle)|epo Esperanto|est Estonian
eus Basque|fao Faroese|fas Persian|fil Filipino|fin Finnish|fra French|frk German (Fraktur)
frm French (middle)|fry Frisian|gla Gaelic (Scottish)|gle Irish|glg Galician
grc Greek (ancient)|guj Gujarati|hat Haitian|heb Hebrew|hin Hindi|hrv Croatian|hun Hungarian
hye Armenian|iku Inuktitut|ind Indonesian|isl Icelandic|ita Italian|ita_old Italian (old)
jav Javanese|jpn Japanese|jpn_vert Japanese (vertical)|kan Kannada|kat Georgian
kat_old Georgian (old)|kaz Kazakh|khm Khmer|kir Kyrgyz|kmr Kurdish|kor Korean
kor_vert Korean (vertical)|lao Lao|lat Latin|lav Latvian|lit Lithuanian|ltz Luxembourgish
mal Malayalam|mar Marathi|mkd Macedonian|mlt Maltese|mon Mongolian|mri Maori|msa Malay
mya Burmese|nep Nepali|nld Dutch|nor Norwegian|oci Occitan|ori Odia|pan Punjabi|pol Polish
por Portuguese|pus Pashto|que Quechua|ron Romanian|rus Russian|san Sanskrit|sin Sinhala
slk Slovak|slk_frak Slovak (Fraktur)|slv Slovenian|snd Sindhi|spa Spanish|spa_old Spanish (old)
sqi Albanian|srp Serbian|srp_latn Serbian (Latin)|sun Sundanese|swa Swahili|swe Swedish
syr Syriac|tam Tamil|tat Tatar|tel Telugu|tgk Tajik|tha Thai|tir Tigrinya|ton Tongan|tur Turkish
uig Uyghur|ukr Ukrainian|urd Urdu|uzb Uzbek|uzb_cyrl Uzbek (Cyrillic)|vie Vietnamese|yid Yiddish
yor Yoruba""".replace("\n", "|").split("|")
)


def name(code: str) -> str:
    """Returns the English name of a language, or the code if it is unknown."""
    if code.startswith("script/"):
        return f"{code.removeprefix('script/')} script"
    return _NAMES.get(code, code)
