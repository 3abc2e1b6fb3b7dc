#!/usr/bin/env python3
"""The access policy engine against Mosquitto: random acl files, identities and topics, the same operations on both.

Mosquitto runs as its own process with the random file as its acl_file, and is asked over MQTT 5.0: a PUBLISH of QoS 1 is
denied when its PUBACK says 0x87; a read is allowed when a message that a third client publishes arrives. The engine answers
through the example program `verdicts`. A user name here stands for the common name of a certificate there.

Every disagreement must be one of DIFFERENCES. A difference that comes from lines of the file is believed only when both sides agree
once exactly those lines are taken out.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mqtt5 import Client

ROOT = Path(__file__).resolve().parents[3]
SUPER = "zz-super"
NOT_AUTHORIZED = 0x87
# Where no client of Mosquitto publishes, so that a right to read cannot be seen.
UNPUBLISHABLE = ("$SYS", "$share", "$CONTROL")

USERS = ["u1", "u1", "u2", "u3", "sensor-001", "a"]
# Names that no certificate may give here; Mosquitto takes them as they are.
ODD_USERS = ["a/b", "a+b", "#", "u 1", "%u", "$SYS", "ü"]
CLIENTS = ["c1", "c1", "u1", "a", "a/b", "c+", "c#", "$aws", "%u", "c 1"]
LEVELS = ["a", "a", "b", "", "u1", "c1", "u2", "$aws", "dev-u1", "%u"]
RULE_LEVELS = LEVELS + ["+", "+", "%u", "%u", "%c", "%c", "%t", "dev-%u", "%u-%c", "$SYS", "$share", "$CONTROL"]
TOPIC_LEVELS = LEVELS + ["$SYS", "$share", "$CONTROL", "c1", "b"]
BROKEN = [
    "topic\tread a", "topic foo bar", "  # comment", "topics read a", "user", "user  ", "topic", "pattern",
    "topic read a/#/b", "topic read a#", "pattern write +%u", "Topic read a", "topic READ a", "\ufefftopic read a",
    "topic read " + "a/" * 201 + "b",
]
ODD = ["topic read", "topic deny", "   topic   read   a  ", "topic read a b", "# comment", "", "   ", "topic read a\r",
       "user   u1   ", "topic write b \t ", "topic read " + "a/" * 200]


class Difference:
    """A named difference: whether it can concern an operation, and which lines of a file it is about (none: the operation itself)."""

    def __init__(self, name, reason, operation=lambda op: True, line=None):
        self.name, self.reason, self.operation, self.line = name, reason, operation, line
        self.seen = 0


def levels_of(line):
    words = line.split()
    return words[-1].split("/") if words[:1] == ["pattern"] else []


def mid_level(line):
    return any(level not in ("%u", "%c") and ("%u" in level or "%c" in level) for level in levels_of(line))


DIFFERENCES = [
    Difference("mid-level variable", "Mosquitto 2.0 replaces %u and %c inside of a level; here, as in Mosquitto 2.1, a variable is a "
               "whole level, and anything else is an error unless an option makes it a warning", line=mid_level),
    Difference("client id with separator", "Mosquitto 2.0 lets the value of %c spread over several levels; here it is one level or does "
               "not match", lambda op: "/" in op["client"], lambda line: "%c" in levels_of(line)),
    Difference("variable below $", "Mosquitto lets a first level %c stand for a reserved root such as $aws; here a variable is "
               "never one", lambda op: op["client"].startswith("$"), lambda line: levels_of(line)[:1] == ["%c"]),
    Difference("client id that looks like a variable", "Mosquitto 2.0 replaces in the text that it has already replaced in; here values "
               "are never read again", lambda op: "%" in op["client"], lambda line: "%c" in levels_of(line)),
    Difference("thing name", "%t is a variable here and plain text in Mosquitto", line=lambda line: "%t" in levels_of(line)),
    Difference("$CONTROL", "Mosquitto hands $CONTROL to plugins, here nobody publishes there",
               lambda op: op["access"] == "write" and op["topic"].startswith("$CONTROL/")),
    Difference("$aws", "an ordinary topic in Mosquitto; here the broker alone publishes there, but for the requests of provisioning",
               lambda op: op["access"] == "write" and op["topic"].startswith("$aws/")),
]
# Not a disagreement about a topic, counted on the side.
IDENTITY = Difference("identity", "a name with / + # % $, space or non-ASCII letters is refused with its certificate")
SUBSCRIBE = Difference("subscribe check", "Mosquitto grants every subscription and filters delivery; here one that is not covered by a "
                       "right to read is refused")


class Engine:
    def __init__(self, program):
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=10)


class Mosquitto:
    """A Mosquitto with one acl file, on a Unix socket. `running` tells whether it took the file."""

    START_SECONDS = 10

    def __init__(self, program, directory, text):
        self._log = directory / "log"
        acl, config, self.path = directory / "acl", directory / "conf", directory / "socket"
        acl.write_bytes(text.encode())
        acl.chmod(0o600)
        config.write_text(f"listener 0 {self.path}\nallow_anonymous true\nacl_file {acl}\nlog_dest stdout\n"
                          "log_type all\nconnection_messages false\nmax_packet_size 100000\n"
                          + ("user root\n" if os.geteuid() == 0 else ""))
        self.path.unlink(missing_ok=True)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen([program, "-c", config], stdout=log, stderr=log)
        self.running = self._started()

    def _started(self):
        end = time.monotonic() + self.START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                if "acl_file" not in self._log.read_text(errors="replace"):
                    raise RuntimeError(f"mosquitto ended for another reason:\n{self._log.read_text(errors='replace')}")
                return False
            # The socket file is there a moment before it listens.
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.path)) == 0:
                    return True
            time.sleep(0.002)
        self.stop()
        raise RuntimeError("mosquitto does not start")

    def stop(self):
        self._process.kill()
        self._process.wait(timeout=10)


class Comparison:
    def __init__(self, arguments):
        self.arguments = arguments
        self.random = random.Random(arguments.seed)
        self.engine = Engine(arguments.verdicts)
        self.directory = Path(tempfile.mkdtemp(prefix="acl-"))
        self.failures = []
        self.counts = {"policies": 0, "refused by both": 0, "operations": 0, "allowed": 0, "denied": 0}

    # Generation

    def levels(self, words, hash_allowed=False):
        levels = [self.random.choice(words) for _ in range(self.random.randint(1, 4))]
        if hash_allowed and self.random.random() < 0.3:
            levels[-1] = "#"
        return "/".join(levels) or "a"

    def policy(self):
        lines = []
        for _ in range(self.random.randint(0, 9)):
            if self.random.random() < 0.25:
                lines.append("user " + self.random.choice(USERS + ["a/b", "u 1"]))
            elif self.random.random() < 0.08:
                lines.append(self.random.choice(ODD))
            else:
                access = self.random.choice(["read ", "write ", "readwrite ", "deny ", ""])
                keyword = self.random.choice(["topic", "topic", "pattern"])
                lines.append(f"{keyword} {access}{self.levels(RULE_LEVELS, True)}")
        if self.random.random() < 0.1:
            lines.insert(self.random.randint(0, len(lines)), self.random.choice(BROKEN))
        return lines

    def topic_near(self, lines, user, client):
        """A topic, most often one that a rule of the file matches, or nearly."""
        rules = [line.split()[-1] for line in lines if line.startswith(("topic ", "pattern ")) and "\t" not in line]
        if not rules or self.random.random() < 0.25:
            return self.levels(TOPIC_LEVELS)
        levels = []
        for level in self.random.choice(rules).split("/")[:8]:
            if level == "#":
                levels += [self.random.choice(LEVELS) for _ in range(self.random.randint(0, 2))]
            elif "+" in level or "#" in level:
                levels.append(self.random.choice(LEVELS))
            elif self.random.random() < 0.9:
                levels.append(level.replace("%u", user).replace("%c", client).replace("%t", user))
            else:
                levels.append(level)
        if self.random.random() < 0.15:
            levels[self.random.randrange(len(levels)) if levels else 0 :] = [self.random.choice(LEVELS)]
        topic = "/".join(levels)
        return "a" if not topic or "+" in topic or "#" in topic else topic

    def filter_near(self, lines, user, client):
        levels = self.topic_near(lines, user, client).split("/")
        if self.random.random() < 0.5:
            levels[self.random.randrange(len(levels))] = "+"
        if self.random.random() < 0.5:
            levels[self.random.randrange(len(levels)) :] = ["#"]
        topic_filter = "/".join(levels)
        return "+" if topic_filter.startswith("$share") else topic_filter

    def operations(self, lines):
        for _ in range(3):
            user = self.random.choice(ODD_USERS if self.random.random() < 0.08 else USERS)
            client = self.random.choice(CLIENTS)
            for _ in range(self.arguments.operations // 3):
                near = (lines, user, client)
                if self.random.random() < 0.2:
                    topics = [self.topic_near(*near) for _ in range(4)]
                    topics = [topic for topic in topics if not topic.startswith(UNPUBLISHABLE)]
                    yield {"user": user, "client": client, "access": "subscribe", "topic": self.filter_near(*near),
                           "topics": topics}
                else:
                    access = self.random.choice(["read", "write"])
                    yield {"user": user, "client": client, "access": access, "topic": self.topic_near(*near)}

    # Both sides

    def ask_mosquitto(self, mosquitto, operations):
        """For each operation what Mosquitto allows: a dictionary from (access, topic) to a truth value."""
        answers = []
        publisher = Client(str(mosquitto.path), SUPER, SUPER)
        client, who = None, None
        for op in operations:
            if who != (op["user"], op["client"]):
                if client:
                    client.close()
                who = (op["user"], op["client"])
                client = Client(str(mosquitto.path), *who)
                if client.connect_reason != 0:
                    raise RuntimeError(f"mosquitto refuses {who}: {client.connect_reason:#x}")
            answers.append(self.ask_one(client, publisher, op))
        client.close()
        publisher.close()
        return answers

    @staticmethod
    def ask_one(client, publisher, op):
        if op["access"] == "write":
            return {("write", op["topic"]): client.publish(op["topic"]) != NOT_AUTHORIZED}
        if op["access"] == "read" and op["topic"].startswith(UNPUBLISHABLE):
            return {}  # Nobody can publish there to find out.
        granted = client.subscribe(op["topic"])
        if granted >= 0x80:
            raise RuntimeError(f"mosquitto refuses a subscription: {op}")
        topics = op.get("topics", [op["topic"]])
        for topic in topics:
            if publisher.publish(topic) == NOT_AUTHORIZED:
                raise RuntimeError(f"the publisher of the comparison may not publish {topic}")
        received = client.received()
        client.unsubscribe(op["topic"])
        return {("read", topic): topic in received for topic in topics if matches(op["topic"], topic)}

    def file_of(self, lines):
        more = [f"user {SUPER}", "topic #"] + [f"topic {root}/#" for root in ("$aws",)]
        return "\n".join(lines + more) + "\n"

    def run_mosquitto(self, lines, operations):
        """What Mosquitto answers, or None when it does not take the file."""
        mosquitto = Mosquitto(self.arguments.mosquitto, self.directory, self.file_of(lines))
        try:
            return self.ask_mosquitto(mosquitto, operations) if mosquitto.running else None
        finally:
            mosquitto.stop()

    def load(self, lines):
        return self.engine.ask(policy=self.file_of(lines))

    def engine_allows(self, op, access, topic):
        return self.engine.ask(user=op["user"], client=op["client"], access=access, topic=topic)

    # Comparison

    def compare(self):
        for number in range(self.arguments.policies):
            lines = self.policy()
            operations = list(self.operations(lines))
            self.counts["policies"] += 1
            loaded = self.load(lines)
            theirs = self.run_mosquitto(lines, operations)
            if (theirs is None) != bool(loaded["errors"]):
                self.fail(lines, None, f"policy {number}: mosquitto {'refuses' if theirs is None else 'takes'} the file, "
                                       f"we say {loaded['errors']}")
                continue
            if theirs is None:
                self.counts["refused by both"] += 1
                continue
            for op, answers in zip(operations, theirs):
                self.load(lines)
                self.compare_operation(lines, op, answers)
            if sys.stderr.isatty():
                print(f"\r{number + 1}/{self.arguments.policies}", end="", file=sys.stderr)

    def compare_operation(self, lines, op, answers):
        for (access, topic), expected in answers.items():
            self.counts["operations"] += 1
            ours = self.engine_allows(op, access, topic)
            if "identity" in ours:
                IDENTITY.seen += 1
                continue
            self.counts["allowed" if expected else "denied"] += 1
            if ours["allowed"] != expected:
                self.attribute(lines, op, access, topic, expected, ours)
        if op["access"] == "subscribe" and not self.engine_allows(op, "subscribe", op["topic"]).get("allowed", True):
            SUBSCRIBE.seen += 1

    def attribute(self, lines, op, access, topic, expected, ours):
        question = {"user": op["user"], "client": op["client"], "access": access, "topic": topic}
        for difference in DIFFERENCES:
            if not difference.operation(question):
                continue
            if difference.line is None:
                difference.seen += 1
                return
            reduced = [line for line in lines if not difference.line(line)]
            if len(reduced) == len(lines):
                continue
            self.load(reduced)
            theirs = self.run_mosquitto(reduced, [question])[0]
            agree = theirs[(access, topic)] == self.engine_allows(op, access, topic)["allowed"]
            self.load(lines)
            if agree:
                difference.seen += 1
                return
        # Several of the differences at once.
        named = [d for d in DIFFERENCES if d.line and d.operation(question)]
        reduced = [line for line in lines if not any(d.line(line) for d in named)]
        self.load(reduced)
        theirs = self.run_mosquitto(reduced, [question])[0]
        agree = theirs[(access, topic)] == self.engine_allows(op, access, topic)["allowed"]
        self.load(lines)
        if agree and len(reduced) < len(lines):
            for difference in named:
                difference.seen += any(map(difference.line, lines))
            return
        self.fail(lines, question, f"mosquitto {'allows' if expected else 'denies'}, we: {ours['because']}")

    def fail(self, lines, question, why):
        self.failures.append((lines, question, why))
        print(f"\nDISAGREEMENT {question}\n{why}\nfile:\n" + "\n".join(map(repr, lines)))


def matches(topic_filter, topic):
    """Whether a filter matches a topic (MQTT 5.0 section 4.7)."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(levels) or level not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)


def build_verdicts():
    command = ["cargo", "build", "--quiet", "--message-format=json", "-p", "signet-acl", "--example", "verdicts"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in output.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "verdicts":
            return message["executable"]
    raise RuntimeError("cargo did not build the example")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the random cases; 0 takes a new one")
    parser.add_argument("--policies", type=int, default=200)
    parser.add_argument("--operations", type=int, default=30, help="for each policy")
    parser.add_argument("--mosquitto", default="/usr/sbin/mosquitto")
    parser.add_argument("--verdicts", help="the built example program")
    arguments = parser.parse_args()
    arguments.seed = arguments.seed or random.SystemRandom().randrange(1, 2**32)
    arguments.verdicts = arguments.verdicts or build_verdicts()
    print(f"seed {arguments.seed}", flush=True)
    comparison = Comparison(arguments)
    began = time.monotonic()
    try:
        comparison.compare()
    finally:
        comparison.engine.close()
        shutil.rmtree(comparison.directory)
    for difference in [*DIFFERENCES, IDENTITY, SUBSCRIBE]:
        print(f"named difference, {difference.seen} times: {difference.name}: {difference.reason}")
    print(", ".join(f"{count} {name}" for name, count in comparison.counts.items())
          + f", {len(comparison.failures)} disagreements in {time.monotonic() - began:.1f} s")
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main())
