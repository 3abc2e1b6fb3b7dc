"""Where Signet and Mosquitto 2.0.11 differ on purpose; everything else must be the same for both.

`CODES`: what a client is told. `ABSENT`: what Mosquitto does not have, so that the test cannot ask it.
"""

CODES = {
    # A SUBSCRIBE that the policy does not cover is refused at once. Mosquitto grants it and delivers nothing.
    "uncovered subscribe, 3.1.1": {"signet": 0x80, "mosquitto": 0x01},
    "uncovered subscribe, 5.0": {"signet": 0x87, "mosquitto": 0x01},
    # A PUBLISH that the policy refuses: the same for both. MQTT 3.1.1 has no way to say it.
    "denied publish, 3.1.1": {"signet": 0x00, "mosquitto": 0x00},
    "denied publish, 5.0": {"signet": 0x87, "mosquitto": 0x87},
}

# What a client that offers TLS 1.1 at most is told: protocol_version (70), or that nothing fits (40), since its hello
# names no signatures. Debian's OpenSSL calls that internal_error (80).
OLD_TLS_ALERTS = {"signet": {40, 70}, "mosquitto": {70, 80}}

# Who gets in while the wall clock is wrong: a good certificate, and one that has really ended. Signet takes no time for right
# that is before what has passed; OpenSSL asks the clock.
LET_IN = {
    "signet": {
        "a day on": {"good"},
        "a day back": {"good"},
        "1970": {"good"},
        "ten years on": set(),
        "as it was": {"good"},
    },
    "mosquitto": {
        "a day on": {"good"},
        "a day back": {"lapsed"},
        "1970": set(),
        "ten years on": set(),
        "as it was": {"good"},
    },
}

# Whether the session of a device that is away outlives a clock that was set: in Signet it ends by the monotonic clock.
AWAY_KEPT = {"signet": True, "mosquitto": False}

ABSENT = {
    "mosquitto": {
        "failure records": "Mosquitto logs OpenSSL's words, without peer, certificate, reason or hint",
        "handshake deadline": "Mosquitto gives a handshake no deadline of its own",
        "fragment size": "Mosquitto has no setting for the size of TLS records",
        "EKU demanded": "Mosquitto accepts certificates without extended key usage",
        "client ids per name": "Mosquitto gives a session to whoever comes next with its client id",
        "leaf alone": "OpenSSL completes the chain that it sends from Mosquitto's cafile",
        "authority": "Mosquitto issues no certificates and keeps no registry",
        "doctor": "Mosquitto has no doctor; OpenSSL's own words are what ours is compared with",
        "ALPN": "Mosquitto selects no application protocol",
    },
    "signet": {},
}
