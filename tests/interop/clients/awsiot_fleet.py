"""Fleet provisioning with the AWS IoT Device SDK v2 for Python, by its own clients for the service, unchanged.

The arguments are a JSON object on standard input; what came of it is a JSON object on standard output.
"""

import json
import sys
import threading

from awscrt import mqtt, mqtt5, mqtt_request_response
from awsiot import V2ServiceException, iotidentity, mqtt5_client_builder, mqtt_connection_builder

TIMEOUT = 20


class Refused(Exception):
    pass


def files(wanted):
    return {
        "endpoint": wanted["host"],
        "port": wanted["port"],
        "cert_filepath": wanted["cert"],
        "pri_key_filepath": wanted["key"],
        "ca_filepath": wanted["ca"],
        "client_id": wanted["client_id"],
    }


class V3:
    """MQTT 3.1.1, with a session that is to be kept, as the builder's default is."""

    def __init__(self, wanted):
        self.connection = mqtt_connection_builder.mtls_from_path(**files(wanted), clean_session=False, keep_alive_secs=30)
        self.session_present = self.connection.connect().result(TIMEOUT)["session_present"]
        self.protocol = self.connection

    def publish(self, topic, payload):
        future, _ = self.connection.publish(topic, payload, mqtt.QoS.AT_LEAST_ONCE)
        future.result(TIMEOUT)

    def denied(self, topic):
        future, _ = self.connection.subscribe(topic, mqtt.QoS.AT_LEAST_ONCE)
        try:
            future.result(TIMEOUT)
        except mqtt.SubscribeError:
            return True
        return False

    def stop(self):
        self.connection.disconnect().result(TIMEOUT)


class V5:
    def __init__(self, wanted):
        connected, stopped, failed = threading.Event(), threading.Event(), []
        self.stopped = stopped

        def success(data):
            self.session_present = data.connack_packet.session_present
            connected.set()

        def failure(data):
            failed.append(str(data.exception))
            connected.set()

        self.client = mqtt5_client_builder.mtls_from_path(
            **files(wanted),
            on_lifecycle_connection_success=success,
            on_lifecycle_connection_failure=failure,
            on_lifecycle_stopped=lambda _: stopped.set(),
        )
        self.client.start()
        assert connected.wait(TIMEOUT), "no connection"
        assert not failed, failed
        self.protocol = self.client

    def publish(self, topic, payload):
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        ack = self.client.publish(packet).result(TIMEOUT).puback
        assert ack.reason_code < 0x80, ack.reason_code

    def denied(self, topic):
        packet = mqtt5.SubscribePacket([mqtt5.Subscription(topic, mqtt5.QoS.AT_LEAST_ONCE)])
        return self.client.subscribe(packet).result(TIMEOUT).reason_codes[0] >= 0x80

    def stop(self):
        self.client.stop()
        assert self.stopped.wait(TIMEOUT)


class Answers:
    """The two answers of one request of the first client for the service."""

    def __init__(self):
        self.came, self.accepted, self.rejected = threading.Event(), None, None

    def accept(self, response):
        self.accepted = response
        self.came.set()

    def reject(self, error):
        self.rejected = error
        self.came.set()

    def result(self):
        assert self.came.wait(TIMEOUT), "no answer"
        if self.rejected is not None:
            raise Refused(f"{self.rejected.status_code} {self.rejected.error_code}: {self.rejected.error_message}")
        return self.accepted


class ServiceV1:
    """`IotIdentityClient`: subscribe to both answers, publish, wait."""

    def __init__(self, transport):
        connection = transport.protocol
        if isinstance(connection, mqtt5.Client):
            connection = connection.new_connection()
            connection.connect().result(TIMEOUT)
        self.client = iotidentity.IotIdentityClient(connection)

    def call(self, name, request, subscription):
        answers = Answers()
        for last, callback in (("accepted", answers.accept), ("rejected", answers.reject)):
            subscribe = getattr(self.client, f"subscribe_to_{name}_{last}")
            future, _ = subscribe(request=subscription, qos=mqtt.QoS.AT_LEAST_ONCE, callback=callback)
            future.result(TIMEOUT)
        getattr(self.client, f"publish_{name}")(request, mqtt.QoS.AT_LEAST_ONCE).result(TIMEOUT)
        return answers.result()

    def from_csr(self, csr):
        request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr)
        subscription = iotidentity.CreateCertificateFromCsrSubscriptionRequest()
        return self.call("create_certificate_from_csr", request, subscription)

    def with_keys(self):
        request = iotidentity.CreateKeysAndCertificateRequest()
        subscription = iotidentity.CreateKeysAndCertificateSubscriptionRequest()
        return self.call("create_keys_and_certificate", request, subscription)

    def register(self, template, token, parameters):
        request = iotidentity.RegisterThingRequest(
            template_name=template, certificate_ownership_token=token, parameters=parameters
        )
        subscription = iotidentity.RegisterThingSubscriptionRequest(template_name=template)
        return self.call("register_thing", request, subscription)


class ServiceV2:
    """`IotIdentityClientV2`: a request and its answer in one call, with two subscriptions that it takes back as it goes."""

    def __init__(self, transport):
        options = mqtt_request_response.ClientOptions(
            max_request_response_subscriptions=2, max_streaming_subscriptions=2, operation_timeout_in_seconds=TIMEOUT
        )
        self.client = iotidentity.IotIdentityClientV2(transport.protocol, options)

    @staticmethod
    def result(future):
        try:
            return future.result(TIMEOUT)
        except V2ServiceException as error:
            refused = error.modeled_error
            if refused is None:
                raise
            raise Refused(f"{refused.status_code} {refused.error_code}: {refused.error_message}") from error

    def from_csr(self, csr):
        request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr)
        return self.result(self.client.create_certificate_from_csr(request))

    def with_keys(self):
        return self.result(self.client.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()))

    def register(self, template, token, parameters):
        request = iotidentity.RegisterThingRequest(
            template_name=template, certificate_ownership_token=token, parameters=parameters
        )
        return self.result(self.client.register_thing(request))


def provision(wanted, transport, service):
    """What the device keeps: certificate, key if it was made for it, and its thing's name."""
    claim = transport(wanted)
    client = service(claim)
    made = client.with_keys() if wanted["csr"] is None else client.from_csr(wanted["csr"])
    registered = client.register(wanted["template"], made.certificate_ownership_token, wanted["parameters"])
    claim.stop()
    return {
        "certificate": made.certificate_pem,
        "certificate_id": made.certificate_id,
        "key": getattr(made, "private_key", None),
        "thing": registered.thing_name,
        "configuration": registered.device_configuration,
    }


def main():
    wanted = json.load(sys.stdin)
    transport = {"3": V3, "5": V5}[wanted["mqtt"]]
    service = {"v1": ServiceV1, "v2": ServiceV2}[wanted["service"]]
    try:
        kept = provision(wanted, transport, service)
    except Refused as refused:
        json.dump({"refused": str(refused)}, sys.stdout)
        return
    # As itself, with the same client id.
    for name, text in (("cert", kept["certificate"]), ("key", kept["key"])):
        if text is not None:
            with open(wanted["device"] + "." + name, "w", encoding="ascii") as file:
                file.write(text)
    files_of_device = {"cert": wanted["device"] + ".cert", "key": wanted["device_key"]}
    device = transport({**wanted, **files_of_device})
    kept["session_present"] = device.session_present
    device.publish(f"devices/{kept['thing']}/telemetry/boot", b"1")
    kept["denied"] = device.denied("devices/fp_demo_other/telemetry/boot")
    device.stop()
    json.dump(kept, sys.stdout)


main()
