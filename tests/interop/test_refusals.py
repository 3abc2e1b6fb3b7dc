"""Every bad certificate is refused for every client, and the broker can say why."""

import pytest
from harness.clients import KINDS, Refused

# Certificate (None: none at all): the reason of the broker's record and a word of its hint for the operator.
BAD = {
    "expired": ("expired", "clock"),
    "not-yet-valid": ("not-yet-valid", "clock"),
    "foreign-ca": ("unknown-issuer", "client-ca"),
    "revoked": ("revoked", "revoked"),
    "wrong-eku": ("wrong-eku", "clientAuth"),
    None: ("no-certificate", "certificate"),
}
CASES = [
    pytest.param(kind, bad, id=f"{kind.name}-{bad or 'none'}") for kind in KINDS.values() for bad in BAD
]


@pytest.mark.parametrize(("kind", "bad"), CASES)
def test_a_bad_certificate_is_refused_and_the_reason_recorded(kind, bad, broker, connect):
    mark = broker.mark()
    with pytest.raises(Refused) as refused:
        connect(kind, broker, bad)
    print(f"the client says: {refused.value}")
    reason, hint = BAD[bad]
    record = broker.failure(reason, mark)
    if record is not None:
        assert hint.lower() in record["hint"].lower()
        assert record["peer"].startswith("127.0.0.1")


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in KINDS.values()])
def test_a_good_certificate_is_accepted_right_after_a_refusal(kind, broker, connect):
    with pytest.raises(Refused):
        connect(KINDS["paho-5"], broker, "foreign-ca")
    client = connect(kind, broker)
    assert broker.connected(client.client_id).name == "sensor-001"
