//! What the tests of the codec share: a notation for packets, and generators of packets.

#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

pub(crate) mod corpus;
pub(crate) mod strategy;

use bytes::{Bytes, BytesMut};
use signet_wire::{Frame, PACKET_BYTES_MAX, Packet, Version, encode, frame};

/// Bytes from a notation that reads like the specification's figures, blanks aside:
///
/// - `3A` one byte
/// - `'text'` the characters as they are
/// - `s'text'` a two-byte length and the characters
/// - `#10` a two-byte number in decimal
/// - `|` the remaining length: of everything that follows
/// - `{ ... }` a property length and what is within
/// - `*300` repeats the byte before so that it is there 300 times
pub(crate) fn wire(notation: &str) -> Vec<u8> {
    match notation.split_once('|') {
        Some((header, body)) => {
            let mut out = part(header);
            let body = part(body);
            out.extend(varint(body.len()));
            out.extend(body);
            out
        }
        None => part(notation),
    }
}

fn part(notation: &str) -> Vec<u8> {
    let mut stack = vec![Vec::new()];
    let mut rest = notation.trim_start();
    while let Some(first) = rest.chars().next() {
        let used = match first {
            '{' => {
                stack.push(Vec::new());
                1
            }
            '}' => {
                let properties = stack.pop().unwrap();
                let out = stack.last_mut().unwrap();
                out.extend(varint(properties.len()));
                out.extend(properties);
                1
            }
            's' | '\'' => {
                let prefix = usize::from(first == 's');
                let text = rest[prefix + 1..].split('\'').next().unwrap();
                let out = stack.last_mut().unwrap();
                if first == 's' {
                    out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                }
                out.extend(text.as_bytes());
                prefix + text.len() + 2
            }
            '#' | '*' => {
                let digits = rest[1..].chars().take_while(char::is_ascii_digit).count();
                let number = &rest[1..=digits];
                let out = stack.last_mut().unwrap();
                if first == '#' {
                    out.extend(number.parse::<u16>().unwrap().to_be_bytes());
                } else {
                    let byte = *out.last().unwrap();
                    out.extend(std::iter::repeat_n(byte, number.parse::<usize>().unwrap() - 1));
                }
                digits + 1
            }
            _ => {
                let byte =
                    u8::from_str_radix(&rest[..2], 16).unwrap_or_else(|_| panic!("no notation: {rest}"));
                stack.last_mut().unwrap().push(byte);
                2
            }
        };
        rest = rest[used..].trim_start();
    }
    assert_eq!(stack.len(), 1, "unbalanced braces: {notation}");
    stack.remove(0)
}

pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7F).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// The one frame that `bytes` are.
pub(crate) fn whole(bytes: &[u8]) -> Frame {
    let mut buf = BytesMut::from(bytes);
    let frame = frame(&mut buf, PACKET_BYTES_MAX).unwrap().expect("the packet is complete");
    assert!(buf.is_empty(), "more than one packet");
    frame
}

pub(crate) fn encoded(packet: &Packet, version: Version) -> Bytes {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
    out.freeze()
}
