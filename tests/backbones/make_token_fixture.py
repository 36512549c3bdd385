"""Writes tokens.json: what the reference tokenizer makes of hard strings. Run once, by hand:

    pip install --no-deps --target REFERENCE clip-anytorch
    python tests/clip/make_token_fixture.py REFERENCE

`clip-anytorch` carries OpenAI's `SimpleTokenizer`, whose clean-up (ftfy, HTML unescaped twice, white space, lower case)
is open_clip's default. The two differ in the spelling of the special tokens alone: here that of open_clip is put in.
"""

import importlib.util
import json
import sys
from pathlib import Path

HARD = [
    "",
    " ",
    "a photo of a cat",
    "X X X X X scratch anomaly object",
    "N N N N N A A damaged object.",
    "discoloration, dis-coloration; DISCOLORATION!",
    "faulty imprint",
    "🔥",
    "crack 🙂🙃 in glass 👨‍👩‍👧‍👦",
    "🇩🇪🏳️‍🌈 👍🏽",
    "表面有划痕",
    "孔洞 (直径3毫米)，裂纹！",
    "キズ、へこみ ｷｽﾞ",
    "스크래치",
    "царапина на поверхности",
    "خدش على السطح",
    "รอยขีดข่วน",
    "&lt;b&gt;bold&lt;/b&gt;",
    "&amp;lt;b&amp;gt; twice",
    "&amp;amp;amp; thrice",
    "scratch &amp; dent &quot;deep&quot; &#39;x&#39; &#x27;y&#x27; &nbsp; &copy; &hearts;",
    "café naïve Ångström ÜBERMASS straße İstanbul ŞĞ ǅ ﬁne",
    "cafe\u0301 o\u0308l",
    "â€œmojibakeâ€\u009d cafÃ© doesnâ€™t",
    "“curly” ‘quotes’ — dash… ™ ® №5 ½ ² Ⅻ ①",
    "1234567890 3.14 -42 1e-5 0x1F 10µm ±0.5 mm² ５０",
    "it's don't we're I've I'm they'll he'd O'Neil's 'tis 'S 'LL ''s",
    "under_score __init__ snake_case_name _",
    "tab\tnew\nline\r\ncarriage\x0bvertical\x0cform\u00a0nbsp\u3000wide\u2003em\u2028sep\u200bzero",
    "   many     spaces   ",
    "\x00\x01control\x1bescape\x1cfile\x7f",
    "a" * 300,
    "scratch" * 60,
    "pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtsgesellschaftskapitän",
    "!!!??? ... ,,, --- *** ((( ))) [[[ ]]] {{{ }}} <<< >>> ### $$$ %%% @@@ ~~~ ^^^ ||| \\\\ //",
    "http://example.com/path?query=1&other=2#part",
    "ſharp ſ's \u017f'\u017f K (Kelvin) Å (Angstrom) ΑΣ ὈΔΥΣΣΕΎΣ",
    "<start_of_text>a<end_of_text> b",
    "<|startoftext|> <|endoftext|>",
    "\ufeffbyte order mark \ufffd \U0001f9ff \U000e0001",
    "mixed漢字kana かなand한글",
    "a\u0300\u0301\u0302 z̴͓͝a̷͠l̸g̵o",
]


def main() -> None:
    path = Path(sys.argv[1]) / "clip" / "simple_tokenizer.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"no reference tokenizer at {path}")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    tokenizer = reference.SimpleTokenizer()
    for ours, theirs in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
        tokenizer.encoder[ours] = tokenizer.encoder[theirs]
        tokenizer.cache = {key: value for key, value in tokenizer.cache.items() if key != theirs} | {ours: ours}
    pattern = tokenizer.pat.pattern
    for name in ("start", "end"):
        pattern = pattern.replace(rf"<\|{name}oftext\|>", f"<{name}_of_text>")
    tokenizer.pat = reference.re.compile(pattern, reference.re.IGNORECASE)
    entries = [{"text": text, "ids": tokenizer.encode(text)} for text in HARD]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    Path(__file__).with_name("tokens.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
