"""What is certainly a credential is found, wherever it stands; ordinary text never is.

No credential is spelled out here: each is put together when the test runs, and none of them was ever valid.
"""

import base64
import hashlib
import json
import os
import random
import string
import time
import uuid
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitstore import credentials, errors
from gitstore.credentials import Found, checksum, find, find_text, refuse, url_secret

LETTERS = string.ascii_letters
ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "-_"
HEX = "0123456789abcdef"
dice = random.Random(20_261_124)


def draw(alphabet, count):
    """Random characters that begin and end with a letter or digit and hold no placeholder's word."""
    while True:
        text = "".join(dice.choice(alphabet) for _ in range(count))
        classes = any(map(str.isdigit, text)) + any(map(str.isupper, text)) + any(map(str.islower, text))
        if classes > 1 and text[0].isalnum() and text[-1].isalnum() and not credentials._PLACEHOLDER.search(text):
            return text


def with_crc(prefix, count=30):
    body = draw(ALNUM, count)
    return prefix + body + checksum(body)


def base36(number, width):
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = string.printable[digit] + digits
    return digits.rjust(width, "0")


def gitlab_routable():
    head = "glpat-" + draw(URLSAFE, 32) + ".01." + "0w"
    return head + base36(zlib.crc32(head.encode()), 7)


def jwt(header=None, payload=None, signature="c2ln" * 8):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")

    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    return ".".join((part(header), part({"sub": "42"} if payload is None else payload), signature))


def own_key(scope):
    head = f"gs_{scope}_k" + draw(string.ascii_lowercase + string.digits, 7) + draw(ALNUM, 30)
    return head + checksum(head)


def hugging_face():
    return "hf_" + next(t for t in iter(lambda: draw(LETTERS, 34), "") if credentials._letters("hf_" + t))


def own_token():
    head = "gs_token_" + draw(URLSAFE, 72)
    return head + checksum(head)


TOKENS = {
    "GitHub personal": lambda: with_crc("ghp_"),
    "GitHub OAuth": lambda: with_crc("gho_"),
    "GitHub user": lambda: with_crc("ghu_"),
    "GitHub server": lambda: with_crc("ghs_"),
    "GitHub server, stateless": lambda: f"ghs_12345_{jwt()}",
    "GitHub refresh": lambda: with_crc("ghr_", 70),
    "GitHub fine-grained": lambda: "github_pat_1" + draw(ALNUM, 21) + "_" + draw(ALNUM, 59),
    "npm": lambda: with_crc("npm_"),
    "GitLab": lambda: "glpat-" + draw(URLSAFE, 20),
    "GitLab routable": gitlab_routable,
    "GitLab deploy": lambda: "gldt-" + draw(URLSAFE, 20),
    "GitLab runner": lambda: "glrt-" + draw(URLSAFE, 20),
    "GitLab trigger": lambda: "glptt-" + draw(HEX, 40),
    "Slack bot": lambda: "xoxb-" + "2635942065" + "-" + "2635942071" + "-" + draw(ALNUM, 24),
    "Slack bot, old": lambda: "xoxb-" + "263594206564" + "-" + draw(ALNUM, 24),
    "Slack user": lambda: "xoxp-" + "-".join(["2635942065", "2635942071", "2635942088", draw(HEX, 32)]),
    "Slack app": lambda: "xapp-1-" + "A05V64V7F2B" + "-5062360157732-" + draw(HEX, 64),
    "Slack refresh": lambda: "xoxe-1-" + draw(ALNUM, 146),
    "Slack webhook": lambda: "https://hooks.slack.com/services/" + "T5T9FBDJQ/B5T5WFU0K/" + draw(ALNUM, 24),
    "Stripe": lambda: "sk_live_" + draw(ALNUM, 24),
    "Stripe restricted": lambda: "rk_live_" + draw(ALNUM, 99),
    "Google": lambda: "AIza" + draw(URLSAFE, 35),
    "Google client": lambda: "GOCSPX-" + draw(URLSAFE, 28),
    "PyPI": lambda: "pypi-AgEI" + "cHlwaS5vcmc" + draw(URLSAFE, 150),
    "Anthropic": lambda: "sk-ant-api03-" + draw(URLSAFE, 93) + "AA",
    "Anthropic OAuth": lambda: "sk-ant-oat01-" + draw(URLSAFE, 95),
    "OpenAI": lambda: "sk-" + draw(ALNUM, 20) + "T3Blbk" + "FJ" + draw(ALNUM, 20),
    "OpenAI project": lambda: "sk-proj-" + draw(URLSAFE, 74) + "T3Blbk" + "FJ" + draw(URLSAFE, 74),
    "OpenRouter": lambda: "sk-or-v1-" + draw(HEX, 64),
    "SendGrid": lambda: "SG." + draw(URLSAFE, 22) + "." + draw(URLSAFE, 42) + "7",
    "DigitalOcean": lambda: "dop_v1_" + draw(HEX, 64),
    "Vault": lambda: "hvs." + draw(ALNUM, 23) + "7",
    "Vault, long": lambda: "hvs.CAESI" + draw(URLSAFE, 90) + "7",
    "Vault batch": lambda: "hvb." + draw(URLSAFE, 150) + "7",
    "Hugging Face": hugging_face,
    "Groq": lambda: "gsk_" + draw(ALNUM, 52),
    "xAI": lambda: "xai-" + draw(ALNUM, 80),
    "Docker": lambda: "dckr_pat_" + draw(URLSAFE, 27),
    "Grafana": lambda: "glsa_" + draw(ALNUM, 32) + "_" + draw(HEX, 8),
    "age": lambda: "AGE-SECRET-KEY-1" + draw("023456789ACDEFGHJKLMNPQRSTUVWXYZ", 58),
    "JSON web token": jwt,
    "own agent key": lambda: own_key("agent"),
    "own worker key": lambda: own_key("worker"),
    "own admin key": lambda: own_key("admin"),
    "own service key": lambda: own_key("service"),
    "own token": own_token,
    "own master key": lambda: "gitstore-key-1-" + draw(URLSAFE, 43),
}


def pem(key, form, password=None):
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption).decode()


RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
# Armour and headers as OpenPGP and the older encrypted PEM have them.
_PGP = "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\nComment: a: b\n\n"
_OLD = "-----BEGIN RSA " + "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n"
_BODY = "\n".join(base64.b64encode(os.urandom(48)).decode() for _ in range(5))
_SSH = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n"
_SSH_BODY = base64.b64encode(b"openssh-key-v1\0\0\0\0\x0aaes256-ctr\0\0\0\x06bcrypt" + os.urandom(200)).decode()
KEYS = {
    "PKCS 8": pem(RSA, PrivateFormat.PKCS8),
    "PKCS 8, encrypted": pem(RSA, PrivateFormat.PKCS8, b"pass"),
    "PKCS 1": pem(RSA, PrivateFormat.TraditionalOpenSSL),
    "PKCS 1, encrypted": pem(RSA, PrivateFormat.TraditionalOpenSSL, b"pass"),
    "SEC 1": pem(P256, PrivateFormat.TraditionalOpenSSL),
    "Ed25519": pem(ED, PrivateFormat.PKCS8),
    "OpenSSH": pem(ED, PrivateFormat.OpenSSH),
    "OpenSSH, encrypted": f"{_SSH}{_SSH_BODY}\n-----END OPENSSH " + "PRIVATE KEY-----\n",
    "OpenPGP": f"{_PGP}{_BODY}\n-----END PGP " + "PRIVATE KEY BLOCK-----\n",
    "old encrypted": f"{_OLD}{_BODY}\n-----END RSA " + "PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("kind", TOKENS)
def test_tokens_are_found_in_text_and_in_data(kind):
    for _ in range(20):
        token = TOKENS[kind]()
        for text in (
            token,
            f"TOKEN={token}\n",
            f"say '{token}', please",
            f"https://host/?t={token}&x=1",
            f"a\n({token}).",
        ):
            assert len(find_text(text)) == 1, text
            assert len(find({"a": [text]})) == 1, text
        assert find({"a": {"b/c~": [0, {"d": token}]}})[0].pointer == "/a/b~1c~0/1/d"


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    "dress",
    [
        str,
        lambda key: key.replace("\n", "\r\n"),
        lambda key: key.replace("\n", "\n    "),
        lambda key: json.dumps({"private_key": key}),
        lambda key: key.replace("\n", "\\n"),
        lambda key: key[:400],
    ],
    ids=["plain", "CRLF", "indented", "in JSON text", "one line", "cut short"],
)
def test_private_keys_are_found(kind, dress):
    text = dress(KEYS[kind])
    assert [one.what for one in find_text(f"before\n{text}")] == ["a private key"]
    assert find({"k": text}) == [Found("a private key", "/k")]


def test_public_keys_and_certificates_are_not():
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    ssh = ED.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    certificate = public.replace("PUBLIC KEY", "CERTIFICATE")
    assert find_text(public + ssh + certificate) == []


ORDINARY = [
    "tokenizer",
    "the tokenizer's api_key_count is 12",
    "com.example.platform.token.TokenProviderFactoryBeanConfiguration",
    "hvs.getDataSourceConnectionFactoryBeanInstance",
    "SG.getDataSourceConnector.newDataSourceConnectionFactoryBeanPostProce",
    hashlib.sha1(b"x", usedforsecurity=False).hexdigest(),
    hashlib.sha256(b"x").hexdigest(),
    "sha256-" + base64.b64encode(hashlib.sha256(b"x").digest()).decode(),
    str(uuid.UUID(int=0xA1B2C3D4E5F60718293A4B5C6D7E8F90)),
    "secret:github-token",
    "secret:" + "release/ghp_token",
    "ghp_" + "x" * 36,
    "ghp_" + "0123456789" * 3 + "abcdef",
    "npm_config_registry_and_a_long_name_more",
    "npm_" + "A1b2" * 9,
    "glpat-" + "x" * 20,
    "glpat-my-personal-access-t",
    "glpat-" + "<your-token>",
    "xoxb-your-token-here-and-more-text",
    "xoxb-" + "123456789012-" + "X" * 24,
    "sk_live_" + "..." + "abcd",
    "sk_live_" + "YourStripeSecretKeyGoesHere1",
    "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "AIza" + "SyYourGoogleMapsApiKeyGoesRightHere",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "AKIA" + "Z7QHVJ2LMNTW4RSK",
    "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws_secret_access_key = ${AWS_SECRET_ACCESS_KEY}",
    "secret_access_key: " + hashlib.sha1(b"x", usedforsecurity=False).hexdigest(),
    "https://hooks.slack.com/services/" + "T00000000/B00000000/" + "X" * 24,
    "pypi-AgEIcHlwaS5vcmc",
    "sk-ant-api03-" + "..." + "AA",
    "hf_getTheModelConfigurationFromTheHubs",
    "hf_" + "a" * 34,
    "gs_admin_" + "x" * 44,
    "gs_admin_key_settings_for_the_release_of_the_platform",
    "the file begins with -----BEGIN RSA " + "PRIVATE KEY----- and ends with -----END RSA " + "PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----\nYOUR PRIVATE KEY HERE\n-----END " + "PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----\nYOURPRIVATEKEYGOESHERE\n-----END " + "PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ...\n-----END " + "PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----\n<base64>\n-----END " + "PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9 is how a header looks",
    "eyJhbGciOiJIUzI1NiJ9.not-json.signature",
    "eyJub3QiOiJhIGhlYWRlciJ9.eyJhIjoxfQ.c2lnbmF0dXJl",
    "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.",
    "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 40).decode(),
    "T3BlbkFJ",
]


@pytest.mark.parametrize("text", ORDINARY, ids=range(len(ORDINARY)))
def test_ordinary_text_is_not(text):
    assert find_text(text) == []
    assert find({"a": text, text: 1}) == []


def test_a_wrong_checksum_makes_it_no_credential():
    for kind in ("GitHub personal", "GitHub refresh", "npm", "GitLab routable", "own admin key", "own token"):
        token = TOKENS[kind]()
        wrong = token[:-1] + ("1" if token[-1] != "1" else "2")
        assert find_text(token), kind
        assert not find_text(wrong), kind


def test_the_checksum_is_the_one_that_github_uses():
    # Body and checksum of tokens that were published as examples, long revoked.
    for body, crc in (("sbUsUmRNn8X74dFU0DJ9Fm1mvdCgtH", "474T38"), ("UEuirnhN6qyDNigmWWTIEHMNquQHF5", "4FKSCV")):
        assert checksum(body) == crc


def test_a_token_inside_a_longer_word_is_none():
    token = TOKENS["GitHub personal"]()
    assert not find_text("x" + token)
    assert not find_text(token + "x")
    assert find_text("my_" + token)


@given(st.text(max_size=400))
@example("-----BEGIN PRIVATE KEY-----")
@settings(max_examples=200, deadline=None)
def test_no_text_is_found_by_chance(text):
    assert find_text(text) == []
    assert find({text: [text]}) == []


WORDS = st.text(string.ascii_letters + string.digits + "_-./+=:@ \n", max_size=80)
MARKERS = sorted({rule.marker for rule in credentials._RULES})


@given(st.lists(st.one_of(st.sampled_from(MARKERS), WORDS), max_size=8).map("".join))
@settings(max_examples=400, deadline=None)
def test_not_even_text_with_the_marks_of_tokens(text):
    # Hypothesis draws runs and repetitions rather than randomness, which is what placeholders look like.
    found = find_text(text)
    assert all(len(set(text)) > 10 for _ in found)


@given(st.uuids(), st.binary(min_size=1, max_size=600), st.lists(st.from_regex(r"[a-z]{2,12}", fullmatch=True)))
@settings(deadline=None)
def test_ids_hashes_images_and_names_are_not(some, data, words):
    encoded = base64.b64encode(data).decode()
    value = {
        "id": str(some),
        "sha1": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        "sha512": hashlib.sha512(data).hexdigest(),
        "image": f"data:image/png;base64,{encoded}",
        "url_safe": base64.urlsafe_b64encode(data).decode(),
        ".".join(words): "_".join(words),
        "-".join(words): "/".join(words),
        "token": "secret:" + "-".join(words),
    }
    assert find(value) == []
    assert find_text(json.dumps(value, indent=1)) == []


def test_a_credential_as_a_key_is_not_shown():
    token = TOKENS["npm"]()
    found = find({"a": {token: {"b": token}}})
    assert [one.pointer for one in found] == ["/a", "/a/…/b"]
    assert found[0].what == "an npm token as a key"
    assert token not in repr(found)


def test_an_aws_secret_is_certain_only_beside_its_name():
    secret = next(s for s in iter(lambda: draw(ALNUM + "/+", 40), "") if any(map(str.isdigit, s)))
    assert find_text(f"[default]\naws_secret_access_key = {secret}\n") == [Found("an AWS secret key", line=2, column=5)]
    assert find_text(f"export AWS_SECRET_ACCESS_KEY='{secret}'")
    assert find({"aws": {"awsSecretAccessKey": secret}}) == [Found("an AWS secret key", "/aws/awsSecretAccessKey")]
    assert find({"checksum": secret}) == []
    assert find_text(secret) == []


def test_line_and_column_count_from_one():
    token = TOKENS["GitHub personal"]()
    text = f"é{token}\n\n\tkey: {token}\nlast"
    assert [(one.line, one.column) for one in find_text(text)] == [(1, 2), (3, 7)]
    assert find_text(token)[0].column == 1


def test_data_that_is_not_encoded_in_one_go_is_searched_too():
    token = TOKENS["GitHub personal"]()
    for odd in (2**80, "\ud800"):
        assert find([odd, token]) == [Found("a GitHub token", "/1")]
    deep = token
    for _ in range(5000):
        deep = [deep]
    assert len(find(deep)) == 1


def test_every_rule_is_searched_whatever_surrounds_it():
    """The quick look before the search must never miss: small, in capitals, in the midst of a long text."""
    for kind, make in TOKENS.items():
        token = make()
        assert find(token), kind
        assert find(["ä" * 50, {"lower case words": f"and {token}"}]), kind
        assert find_text("word " * 3000 + token + " word" * 3000), kind


def test_refuse_names_the_place_and_never_the_credential():
    token = TOKENS["npm"]()
    with pytest.raises(errors.SecretFound) as caught:
        refuse(find({"a": [token, token]}), "memory key x")
    assert caught.value.message.startswith("memory key x holds an npm token at /a/0 (and 1 more).")
    assert "secret:" in caught.value.message
    assert caught.value.details == {
        "errors": [{"pointer": f"/a/{i}", "message": "holds an npm token"} for i in range(2)],
    }
    with pytest.raises(errors.SecretFound, match=r"notes\.md holds an npm token at line 2, column 1"):
        refuse(find_text(f"x\n{token}"), "notes.md")
    with pytest.raises(errors.SecretFound, match=r"the name holds an npm token\."):
        refuse(find(token), "the name")
    refuse([], "nothing")


def test_at_most_a_hundred_are_told():
    token = TOKENS["npm"]()
    assert len(find([token] * 500)) == 100
    assert len(find_text(f"{token}\n" * 500)) == 100


@pytest.mark.parametrize(
    "unit",
    [
        "a ",
        "ghp_",
        "eyJ",
        "-eyJ",
        "_eyJhbGciOiJIUzI1NiJ9.",
        "sk-T3BlbkFJ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nA: b\n",
        "xoxb-123456789-",
        "secret_access_key=",
        "glpat-" + "aB3" * 12,
        "hvs." + "a" * 30,
        "pypi-AgEIcHlwaS5vcmc",
    ],
)
def test_time_grows_with_the_length_only(unit):
    def seconds(length):
        text = unit * (length // len(unit))
        start = time.process_time()
        find_text(text)
        return time.process_time() - start

    seconds(10_000)
    small, large = min(seconds(200_000) for _ in range(3)), seconds(2_000_000)
    assert large < max(small, 0.002) * 40  # ten times the text; a quadratic search would take a hundred times as long


def test_a_small_value_costs_microseconds():
    value = {"version": "2.14.0", "owner": "platform-team", "notes": "Releases go out on Tuesday, after the tests."}
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(500):
            find(value)
        best = min(best, (time.perf_counter() - start) / 500)
    assert best < 20e-6  # about 1 µs; the margin is for a busy machine


SECRET_URLS = [
    "https://user:" + "pw@host/r.git",
    "https://:" + "pw@host/r.git",
    "https://user%3A" + "pw@host/r.git",
    "HTTPS://oauth2:" + "pw@host/r.git",
    "ssh://git:" + "pw@host/r.git",
    "git://a:" + "b@host/r",
    "git+https://a:" + "b@host/r",
    "https://a@b:" + "c@host/r",
    "https://user:pa/" + "ss@host/r",
    "https://user:pa#" + "ss@host/r",
    "user:" + "pw@host:org/r.git",
    "user:" + "pw@host.example/org/r.git",
    "https://host/r.git?access_token=" + "abc",
    "https://host/r.git?x=1&private-token=" + "abc",
    "https://host/r.git?Password=" + "abc",
    "https://host/r.git?X-Amz-Signature=" + "abc",
    "https://host/r.git#token=" + "abc",
    "https://host/r.git?a=1;api_key=" + "abc",
    "https://" + hashlib.sha1(b"tok", usedforsecurity=False).hexdigest() + "@host/r.git",
]
PLAIN_URLS = [
    "https://github.com/org/repo.git",
    "https://host:8443/org/repo.git",
    "https://[::1]:8443/org/repo.git",
    "https://anna@host/r.git",
    "https://anna:@host/r.git",
    "https://anna+1-at-123456789012@git-codecommit.eu-west-1.amazonaws.com/v1/repos/r",
    "ssh://git@host:22/org/repo.git",
    "ssh://APKAEIBAERJR7QTRW2XL@git-codecommit.eu-west-1.amazonaws.com/v1/repos/r",
    "git@github.com:org/repo.git",
    "host:org/repo.git",
    "host:org/repo@v2.git",
    "https://host/@scope/repo",
    "https://host:8080/@scope/repo",
    "https://host/tokenizer.git?ref=main&tokens=12",
    "https://host/r.git?token=",
    "https://host/r.git#readme",
    "git://host/" + hashlib.sha1(b"x", usedforsecurity=False).hexdigest(),
    "",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_urls_that_carry_a_secret(url):
    assert url_secret(url)


@pytest.mark.parametrize("url", PLAIN_URLS)
def test_urls_that_carry_none(url):
    assert not url_secret(url)


@pytest.mark.parametrize("kind", ["GitHub personal", "GitHub fine-grained", "GitLab", "own admin key"])
def test_tokens_in_urls_wherever_they_stand(kind):
    token = TOKENS[kind]()
    assert url_secret(f"https://{token}@host/r.git")
    assert url_secret(f"ssh://{token}@host/r.git")
    assert url_secret(f"https://host/{token}/r.git")
    assert url_secret(f"https://host/{token.replace('_', '%5F').replace('-', '%2D')}/r.git")
    assert url_secret(f"{token}@host:org/r.git")


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_may_be_asked_as_a_url(text):
    assert url_secret(text) in (True, False)
