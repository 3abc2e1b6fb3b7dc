"""Every bad certificate is refused for every client, and the broker can say why."""

import pytest
from harness.clients import KINDS, Refused

# Certificate (None: none at all): the cause in the broker's record and a word of its hint for the operator.
BAD = {
    "expired": ("certificate_expired", "Issue a new one"),
    "not-yet-valid": ("certificate_not_yet_valid", "clock"),
    "foreign-ca": ("unknown_device_certificate", "client-ca"),
    "revoked": ("certificate_revoked", "issue it another"),
    "wrong-eku": ("certificate_purpose", "clientAuth"),
    None: ("no_certificate", "certificate and key"),
}
CASES = [
    pytest.param(kind, bad, id=f"{kind.name}-{bad or 'none'}") for kind in KINDS.values() for bad in BAD
]


@pytest.mark.parametrize(("kind", "bad"), CASES)
def test_a_bad_certificate_is_refused_and_the_cause_recorded(kind, bad, own_broker, connect):
    with pytest.raises(Refused) as refused:
        connect(kind, own_broker, bad)
    print(f"the client says: {refused.value}")
    cause, hint = BAD[bad]
    record = own_broker.failure(cause)
    if record is not None:
        assert hint in record["hint"]
        assert record["peer"].startswith("127.0.0.1:")
        assert (record.get("subject") is None) == (bad is None)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in KINDS.values()])
def test_a_good_certificate_is_accepted_right_after_a_refusal(kind, broker, connect):
    with pytest.raises(Refused):
        connect(KINDS["paho-5"], broker, "foreign-ca")
    client = connect(kind, broker)
    assert broker.connected(client.client_id).name == "sensor-001"
