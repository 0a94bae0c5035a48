"""Hash passwords the way the ERP does: JSON {login: password} in, JSON {login: hash} out. Runs in its environment."""

import json
import sys

import pwdlib
from pwdlib.hashers.argon2 import Argon2Hasher

if __name__ == "__main__":
    hasher = pwdlib.PasswordHash([Argon2Hasher()])
    json.dump({login: hasher.hash(password) for login, password in json.load(sys.stdin).items()}, sys.stdout)
