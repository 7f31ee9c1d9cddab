"""Phone numbers: read, masked for the eye, and keyed or sealed for the database, never kept as they are.

One secret of 32 bytes, kept outside the database, yields three keys (HKDF, one label each): the list's
HMAC, the texts' HMAC, and the Fernet key that seals a number which must be readable again. Losing it
loses the list, so a database remembers its fingerprint and refuses any other (`store.py`).
"""

import base64
import hmac
import os
import re
import unicodedata
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import phonenumbers
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from serving.events import InboundReply
from serving.settings import Settings, SettingsError

KEY_FILE = "phone.key"
_DIALLED = re.compile(
    r"\+?[0-9().]{5,25}"
)  # the library would also read 13800001001x and words as digits
_MAINLAND_MOBILE = re.compile(r"(?:\+?86|0086)?(1[3-9][0-9]{9})")


class PhoneError(ValueError):
    """A text is no phone number. The message does not repeat it."""


def e164(number: str) -> str:
    """Return a number in E.164, read as mainland Chinese unless it names its country; raise PhoneError.

    >>> e164("138 0000-1001"), e164("008613800001001"), e164("+1 415 867 5309")
    ('+8613800001001', '+8613800001001', '+14158675309')
    >>> e164("10086")
    Traceback (most recent call last):
    serving.phones.PhoneError: not a phone number; write 13800001001 or +8613800001001
    """
    if mobile := _MAINLAND_MOBILE.fullmatch(number):  # nearly all, and 50 times faster
        return "+86" + mobile[1]
    plain = "".join(c for c in unicodedata.normalize("NFKC", number) if c not in " -\u200b\t")
    if mobile := _MAINLAND_MOBILE.fullmatch(plain):
        return "+86" + mobile[1]
    if _DIALLED.fullmatch(plain):
        try:
            parsed = phonenumbers.parse(plain, "CN")
        except phonenumbers.NumberParseException:
            parsed = None
        # Possible, not valid: carriers open new number ranges before the library knows them.
        possible = phonenumbers.ValidationResult.IS_POSSIBLE
        if parsed and phonenumbers.is_possible_number_with_reason(parsed) == possible:
            return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    raise PhoneError("not a phone number; write 13800001001 or +8613800001001")


def masked(phone: str) -> str:
    """Return the form of an E.164 number that may be shown.

    >>> masked("+8613800002210"), masked("+14158675309")
    ('138****2210', '+1415****309')
    """
    if _MAINLAND_MOBILE.fullmatch(phone):
        return f"{phone[3:6]}****{phone[-4:]}"
    return f"{phone[:5]}****{phone[-3:]}"


class ListKey:
    """The key under which numbers stand on the list: it tells whether a number is one of them, no more."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Copied for each number: twice as fast as a new one, and 10,000 are asked about at once.
        self._hmac = hmac.new(key, digestmod=sha256)
        self.fingerprint = _derive(key, b"tingxin list fingerprint").hex()[:16]

    def digest(self, phone: str) -> bytes:
        """Return the HMAC-SHA256 of an E.164 number, 32 bytes."""
        mac = self._hmac.copy()
        mac.update(phone.encode())
        return mac.digest()

    def hex(self) -> str:
        """Return the key itself, for who may check numbers against a filter file."""
        return self._key.hex()


class Phones:
    """The keys of one installation. Its repr shows none of them."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise SettingsError("the phone key has fewer than 32 bytes; restore the one in use")
        self.list_key = ListKey(_derive(secret, b"tingxin list"))
        self._text_key = _derive(secret, b"tingxin text")
        self._fernet = Fernet(base64.urlsafe_b64encode(_derive(secret, b"tingxin seal")))
        self.fingerprint = _derive(secret, b"tingxin fingerprint").hex()[:16]

    @classmethod
    def open(cls, settings: Settings) -> "Phones":
        """Take the key from the settings, or from the file under home, which is made if it is not there."""
        if settings.phone_key is not None:
            try:
                return cls(bytes.fromhex(settings.phone_key.get_secret_value()))
            except ValueError:
                raise SettingsError("TINGXIN_PHONE_KEY is not 64 hexadecimal digits") from None
        path = settings.home / KEY_FILE
        if not path.exists():
            write_privately(path, os.urandom(32).hex())
        try:
            return cls(bytes.fromhex(path.read_text(encoding="ascii").strip()))
        except ValueError:
            raise SettingsError(f"{path} does not hold 64 hexadecimal digits; restore it") from None

    def key(self, phone: str) -> str:
        """Return the list's key of an E.164 number: HMAC-SHA256, hexadecimal."""
        return self.list_key.digest(phone).hex()

    def text_key(self, text: str) -> str:
        """Return what a receipt keeps of a text: enough to prove it, not enough to read it."""
        return hmac.new(self._text_key, text.encode(), sha256).hexdigest()

    def seal(self, phone: str) -> str:
        return self._fernet.encrypt(phone.encode()).decode()

    def unseal(self, sealed: str) -> str:
        return self._fernet.decrypt(sealed).decode()

    def message_id(self, reply: InboundReply) -> str:
        """Return the vendor's message id, or one derived from what makes the message itself.

        Without an id only the vendor's time tells a redelivery from the same word sent again months
        later, after a START: without both, every delivery counts as a new message.
        """
        if reply.id:
            return reply.id
        if reply.vendor_time is None:
            return f"once-{uuid4().hex}"
        parts = (reply.phone, reply.to, reply.signature, reply.vendor_time.isoformat(), reply.text)
        return "derived-" + self.text_key("\0".join(parts))[:32]


def _derive(secret: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(secret)


def write_privately(path: Path, text: str) -> None:
    """Write a file that its owner alone may read; one that is there already stays as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # unlike rename, never replaces a key that another process just made
    except FileExistsError:
        pass
    finally:
        draft.unlink()
