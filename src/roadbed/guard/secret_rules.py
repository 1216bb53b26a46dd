"""What secrets look like, in three tiers: exact prefixes, structure, and a telling word beside a value of high entropy.

Tables and pure functions, read by `guard.patterns` (the triggers) and `guard.detect`. Prefix rules carry exact lengths
where the issuer fixes them; the third tier is deliberately strict, because a scanner that cries at every
``token_type=`` is switched off.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log2
from typing import Final

PEM_CHARACTERS_MAX: Final = 12_000
VALUE_CHARACTERS_MIN: Final = 10
PASSWORD_CHARACTERS_MIN: Final = 6
_ENTROPY_MIN = 0.72  # of the most that the value's length allows

_END = r"(?![A-Za-z0-9])"
_B64 = r"[A-Za-z0-9_-]"

# name, prefixes, the rest of the value after the prefix
_PREFIX_TABLE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("roadbed_key", ("rbk_",), r"[A-Za-z0-9]{6,20}_[A-Za-z0-9]{20,64}"),
    ("aws_access_key", ("AKIA", "ASIA", "ABIA", "ACCA"), r"[A-Z2-7]{16}"),
    ("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"[A-Za-z0-9]{36}"),
    ("github_pat", ("github_pat_",), r"[A-Za-z0-9_]{50,100}"),
    (
        "gitlab_token",
        ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "glft-", "glagent-"),
        r"[A-Za-z0-9_.-]{20,320}",
    ),
    ("slack_token", ("xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxo-", "xoxe-", "xoxe."), r"[A-Za-z0-9-.]{10,250}"),
    ("slack_app_token", ("xapp-",), r"[0-9]-[A-Za-z0-9]{5,20}-[0-9]{8,16}-[A-Za-z0-9]{20,100}"),
    ("slack_webhook", ("hooks.slack.com/",), r"(?:services|workflows|triggers)/[A-Za-z0-9+/]{43,80}"),
    ("stripe_key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "sk_prod_", "rk_prod_"), r"[A-Za-z0-9]{10,99}"),
    ("google_api_key", ("AIza",), r"[A-Za-z0-9_-]{35}"),
    ("google_oauth_secret", ("GOCSPX-",), r"[A-Za-z0-9_-]{28}"),
    ("anthropic_key", ("sk-ant-",), r"[A-Za-z0-9_-]{24,160}"),
    ("openai_key", ("sk-proj-", "sk-svcacct-", "sk-admin-"), r"[A-Za-z0-9_-]{20,200}"),
    ("openai_key", ("sk-",), r"[A-Za-z0-9]{20,64}"),
    ("openrouter_key", ("sk-or-v1-",), r"[0-9a-f]{40,80}"),
    ("huggingface_token", ("hf_", "api_org_"), r"[A-Za-z]{34}"),
    ("npm_token", ("npm_",), r"[A-Za-z0-9]{36}"),
    ("pypi_token", ("pypi-AgEIcHlwaS5vcmc",), r"[A-Za-z0-9_-]{50,1000}"),
    ("sendgrid_key", ("SG.",), r"[A-Za-z0-9_=.-]{66}"),
    ("databricks_token", ("dapi",), r"[0-9a-f]{32}(?:-[0-9])?"),
    ("digitalocean_token", ("dop_v1_", "doo_v1_", "dor_v1_"), r"[0-9a-f]{64}"),
    ("shopify_token", ("shpat_", "shpca_", "shppa_", "shpss_"), r"[A-Fa-f0-9]{32}"),
    ("atlassian_token", ("ATATT3",), r"[A-Za-z0-9_=-]{100,250}"),
    ("age_key", ("AGE-SECRET-KEY-1",), r"[A-Z0-9]{58}"),
    ("vault_token", ("hvs.", "hvb."), r"[A-Za-z0-9_-]{24,300}"),
    ("grafana_token", ("glsa_",), r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}"),
    ("grafana_cloud_token", ("glc_",), r"[A-Za-z0-9+/]{32,400}={0,3}"),
    ("newrelic_key", ("NRAK-", "NRII-", "NRJS-"), r"[A-Za-z0-9-]{19,32}"),
    ("pulumi_token", ("pul-",), r"[a-f0-9]{40}"),
    ("postman_key", ("PMAK-",), r"[a-f0-9]{24}-[a-f0-9]{34}"),
    ("doppler_token", ("dp.pt.",), r"[A-Za-z0-9]{43}"),
    ("linear_key", ("lin_api_",), r"[A-Za-z0-9]{40}"),
    ("fly_token", ("fo1_",), _B64 + r"{43}"),
    ("fly_token", ("fm1a_", "fm1r_", "fm2_"), r"[A-Za-z0-9+/]{100,400}={0,3}"),
    ("planetscale_token", ("pscale_tkn_", "pscale_pw_", "pscale_oauth_"), r"[A-Za-z0-9=._-]{32,64}"),
    ("square_token", ("EAAA", "sq0atp-", "sq0csp-"), _B64 + r"{22,60}"),
    ("telegram_prefix", ("EAACEdEose0cBA",), r"[A-Za-z0-9]{10,250}"),
    ("twilio_key", ("SK",), r"[0-9a-f]{32}"),
    ("mailchimp_or_gun", ("key-",), r"[0-9a-f]{32}"),
    ("rubygems_token", ("rubygems_",), r"[0-9a-f]{48}"),
    ("sourcegraph_token", ("sgp_local_", "sgp_"), r"(?:[0-9a-fA-F]{16}_)?[0-9a-fA-F]{40}"),
    ("perplexity_key", ("pplx-",), r"[A-Za-z0-9]{40,64}"),
    ("groq_key", ("gsk_",), r"[A-Za-z0-9]{40,64}"),
    ("xai_key", ("xai-",), r"[A-Za-z0-9]{60,100}"),
    ("onepassword_token", ("ops_eyJ",), r"[A-Za-z0-9+/]{200,4000}={0,3}"),
    ("infracost_key", ("ico-",), r"[A-Za-z0-9]{32}"),
    ("easypost_key", ("EZAK", "EZTK"), r"[A-Za-z0-9]{54}"),
    ("sendinblue_key", ("xkeysib-",), r"[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    ("alibaba_key", ("LTAI",), r"[A-Za-z0-9]{17,26}"),
    ("dynatrace_token", ("dt0c01.",), r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    ("duffel_token", ("duffel_test_", "duffel_live_"), r"[A-Za-z0-9_=-]{43}"),
    ("frameio_token", ("fio-u-",), r"[A-Za-z0-9_=-]{64}"),
    ("contentful_token", ("CFPAT-",), _B64 + r"{43}"),
    ("artifactory_key", ("AKCp",), r"[A-Za-z0-9]{69}"),
    ("artifactory_token", ("cmVmd",), r"[A-Za-z0-9]{59}"),
    ("flutterwave_key", ("FLWPUBK_TEST-", "FLWSECK_TEST-"), r"[A-Ha-h0-9-]{12,32}X?"),
    ("scalingo_token", ("tk-us-",), _B64 + r"{48}"),
    ("typeform_token", ("tfp_",), r"[A-Za-z0-9_.=-]{59}"),
    ("readme_token", ("rdme_",), r"[a-z0-9]{70}"),
    ("prefect_token", ("pnu_",), r"[A-Za-z0-9]{36}"),
    ("settlemint_token", ("sm_aat_", "sm_pat_", "sm_sat_"), r"[A-Za-z0-9]{16}"),
    ("clojars_token", ("CLOJARS_",), r"[A-Za-z0-9]{60}"),
    ("notion_token", ("ntn_", "secret_"), r"[A-Za-z0-9]{43,46}"),
    ("sonar_token", ("sqp_", "sqa_", "squ_"), r"[A-Za-z0-9]{40}"),
    ("sentry_token", ("sntrys_eyJ",), r"[A-Za-z0-9+/]{80,400}={0,2}_[A-Za-z0-9+/]{43}"),
    ("sentry_token", ("sntryu_",), r"[0-9a-f]{64}"),
    ("facebook_token", ("EAAM", "EAAC", "EAAG", "EAAB"), r"[A-Za-z0-9]{80,400}"),
    ("onepassword_key", ("A3-",), r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}"),
    ("intra42_secret", ("s-s4t2ud-", "s-s4t2af-"), r"[0-9a-f]{64}"),
    ("harness_token", ("pat.", "sat."), r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}"),
    ("jwt", ("eyJ",), r"[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_/\\-]{10,2000}\.(?:[A-Za-z0-9_/\\-]{10,1000}={0,2})?"),
    ("jwt_base64", ("ZXlK",), r"[A-Za-z0-9+/_-]{60,3000}={0,2}"),
)

PREFIX_RULES: Final[tuple[tuple[str, str, re.Pattern[str]], ...]] = tuple(
    sorted(
        (
            (prefix, name, re.compile(re.escape(prefix) + rest + _END))
            for name, prefixes, rest in _PREFIX_TABLE
            for prefix in prefixes
        ),
        key=lambda rule: -len(rule[0]),
    )
)
PREFIXES: Final = tuple(sorted({prefix for prefix, _, _ in PREFIX_RULES}))

CONTEXT_WORDS: Final = (
    "authorization", "secret", "token", "passwd", "password", "passwort", "passphrase", "pwd", "credential", "apikey",
    "api[_. -]?key", "access[_. -]?key", "account[_. -]?key", "private[_. -]?key", "encryption[_. -]?key",
    "signing[_. -]?key", "client[_. -]?key", "auth[_. -]?key", "master[_. -]?key", "license[_. -]?key",
    "service[_. -]?key",
)  # fmt: skip
_KEY = re.compile(
    r"(?P<word>" + "|".join(CONTEXT_WORDS) + r")(?P<rest>[a-z0-9_.-]{0,20})[\"'\])]{0,3} {0,4}[:=>]", re.IGNORECASE
)
_ORDINARY_REST = re.compile(
    r"type|id|count|limit|name|url|uri|path|file|expir|length|size|header|version|hint|policy|reset|field|endpoint|ttl"
    r"|format|usage|s?max|min|budget|per|class|mode|scope|ref|arn|manager|store|_at|label|help|prompt",
    re.IGNORECASE,
)
CONTEXT_VALUE: Final = re.compile(
    r"[=>]?[ \t]{0,4}[\"'`]?(?P<value>[^\s\"'`<>,;&|(){}\[\]]{6,200})(?![^\s\"'`<>,;&|(){}\[\]])"
)
PEM_BLOCK: Final = re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----")
URL_USER: Final = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s/?#@:\"'<>]{0,100}:(?P<value>[^\s/?#@\"'<>]{3,200})\Z", re.IGNORECASE
)
USER_OPTION_VALUE: Final = re.compile(r"[^\s\"'`<>|;&]{3,200}")
BEARER_VALUE: Final = re.compile(r"(?:bearer|basic) {1,3}(?P<value>[a-z0-9._~+/-]{16,4000}={0,2})", re.IGNORECASE)

_PLACEHOLDER = re.compile(
    r"x{4,}|\*{3,}|\.{3,}|redacted|placeholder|example|changeme|change_me|your[_-]?|dummy|sample|test_?key|1234567|abcdef"
    r"|undefined|null|none|true|false|process\.env|os\.environ|getenv|\$\{|\$\(|%\(|\{\{|<[a-z]|env:|file:|vault:|secret:",
    re.IGNORECASE,
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_OWN_TOKEN = re.compile(r"[A-Z]{2,6}_[A-Z2-7]{8}(?:[A-Z2-7]{5})?")
_PATH = re.compile(r"(?:\.{0,2}/|[A-Za-z]:\\|https?:|[a-z]+://)")
_IDENTIFIER = re.compile(r"[A-Za-z_]+(?:[._-][A-Za-z_]+|[A-Z][a-z]+)*[0-9]?\Z")
_HEX = re.compile(r"[0-9a-f]+\Z", re.IGNORECASE)


def entropy_share(value: str) -> float:
    """Shannon entropy of the characters, as a share of the most that a text of this length can have."""
    length = len(value)
    total = -sum(count / length * log2(count / length) for count in Counter(value).values())
    return total / log2(min(length, 64)) if length > 1 else 0.0


def character_classes(value: str) -> int:
    """How many of lower case, upper case, digits and other characters occur."""
    return (
        any("a" <= c <= "z" for c in value)
        + any("A" <= c <= "Z" for c in value)
        + any(c.isdigit() for c in value)
        + any(not c.isalnum() for c in value)
    )


def is_placeholder(value: str) -> bool:
    """Whether the value visibly stands for a secret (``${TOKEN}``, ``your-key``, ``xxxx``) or is one of our tokens."""
    return bool(_PLACEHOLDER.search(value) or _OWN_TOKEN.fullmatch(value) or len(set(value)) < 4)


def secret_key_before(view: str, end: int) -> str | None:
    """The telling word of the key that ends with the sign at ``end - 1``, or ``None`` when it tells nothing.

    The word must be a part of a name (``api_token``, ``accessToken``), not of another word (``tokenizer``), and the
    name must not say that the value is about a secret (``token_type``).
    """
    for match in _KEY.finditer(view, max(0, end - 44), end):
        start, stop = match.span("word")
        if match.end() != end:
            continue
        if start and view[start - 1].isalpha() and not (view[start - 1].islower() and view[start].isupper()):
            continue
        rest = match["rest"]
        rest = rest[1:] if rest[:1] in ("s", "S") else rest
        if rest[:1].isalpha() and not (rest[0].isupper() and view[stop - 1].islower()):
            continue
        if not _ORDINARY_REST.search(rest):
            return match["word"].lower()
    return None


def is_sample(value: str) -> bool:
    """Whether a value with an issuer's prefix is one of the issuers' documentation."""
    return value.endswith("EXAMPLE") or "xxxxx" in value.lower() or len(set(value)) < 6


def is_likely_secret(key: str, value: str) -> bool:
    """The third tier: whether ``value``, assigned to something named ``key``, is a secret and no ordinary value."""
    if is_placeholder(value) or _PATH.match(value):
        return False
    if key.startswith(("pass", "pwd")):
        is_word = _IDENTIFIER.match(value) is not None and not any(c.isdigit() for c in value)
        return (
            len(value) >= PASSWORD_CHARACTERS_MIN
            and character_classes(value) >= 2
            and not value.isdigit()
            and not is_word
        )
    if len(value) < VALUE_CHARACTERS_MIN or _IDENTIFIER.match(value):
        return False
    if _UUID.fullmatch(value):
        return True
    if _HEX.match(value):
        return len(value) >= 16 and not value.isdigit() and entropy_share(value) > 0.5
    has_digit = any(c.isdigit() for c in value)
    return has_digit and character_classes(value) >= 2 and entropy_share(value) >= _ENTROPY_MIN
