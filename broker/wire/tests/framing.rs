//! Packets come out of a stream of bytes whole, one after the other, and never larger than allowed.

mod common;

use bytes::{BufMut, BytesMut};
use common::{encoded, strategy, varint, wire};
use proptest::prelude::*;
use signet_wire::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_packet_that_comes_byte_by_byte_is_complete_with_its_last_byte(
        packet in strategy::from_client(Version::V5)
    ) {
        let bytes = encoded(&packet, Version::V5);
        let mut buf = BytesMut::new();
        for (at, &byte) in bytes.iter().enumerate() {
            prop_assert_eq!(frame(&mut buf, PACKET_BYTES_MAX), Ok(None));
            prop_assert_eq!(buf.len(), at);
            buf.put_u8(byte);
        }
        let frame = frame(&mut buf, PACKET_BYTES_MAX).unwrap().unwrap();
        prop_assert!(buf.is_empty());
        prop_assert_eq!(frame.wire_len(), bytes.len());
        prop_assert_eq!(decode_from_client(frame, Version::V5), Ok(packet));
    }

    #[test]
    fn a_hundred_packets_in_one_buffer_come_out_in_order(
        packets in prop::collection::vec(strategy::from_client(Version::V311), 100)
    ) {
        let mut buf = BytesMut::new();
        for packet in &packets {
            encode(packet, Version::V311, &mut buf).unwrap();
        }
        for packet in packets {
            let frame = frame(&mut buf, PACKET_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(decode_from_client(frame, Version::V311), Ok(packet));
        }
        prop_assert_eq!(frame(&mut buf, PACKET_BYTES_MAX), Ok(None));
        prop_assert!(buf.is_empty());
    }
}

#[test]
fn the_limit_counts_the_whole_packet_and_is_inclusive() {
    // 1 byte of type, 1 byte of length, 98 bytes of body.
    let packet = wire("30 | s'topic' 41*91");
    assert_eq!(packet.len(), 100);
    let mut buf = BytesMut::from(packet.as_slice());
    assert_eq!(frame(&mut buf, 99), Err(FrameError::PacketTooLarge { bytes: 100, bytes_max: 99 }));
    assert_eq!(frame(&mut buf, 100).unwrap().unwrap().wire_len(), 100);
}

#[test]
fn a_packet_that_is_too_large_is_refused_before_its_body_arrives() {
    let mut buf = BytesMut::from(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F][..]);
    let capacity = buf.capacity();
    assert_eq!(
        frame(&mut buf, 262_144),
        Err(FrameError::PacketTooLarge { bytes: 268_435_460, bytes_max: 262_144 })
    );
    assert_eq!(buf.capacity(), capacity);
    // Within the limit it is only incomplete, and nothing is reserved on the peer's word.
    assert_eq!(frame(&mut buf, PACKET_BYTES_MAX), Ok(None));
    assert_eq!(buf.capacity(), capacity);
    assert_eq!(buf.len(), 5);
}

#[test]
fn every_length_is_read_at_the_borders_of_its_encoding() {
    for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let mut buf = BytesMut::new();
        buf.put_u8(0xC0);
        buf.extend_from_slice(&varint(length));
        buf.put_bytes(0, length);
        let total = buf.len();
        let frame = frame(&mut buf, PACKET_BYTES_MAX).unwrap().unwrap();
        assert_eq!((frame.body().len(), frame.wire_len()), (length, total));
    }
}

#[test]
fn a_length_of_five_bytes_is_refused_with_its_fourth_byte() {
    for more in [&[0x80, 0x80, 0x80][..], &[0xFF, 0xFF, 0xFF]] {
        let mut buf = BytesMut::from(&[0x30][..]);
        buf.extend_from_slice(more);
        assert_eq!(frame(&mut buf, PACKET_BYTES_MAX), Ok(None));
        buf.put_u8(0x80);
        assert_eq!(frame(&mut buf, PACKET_BYTES_MAX), Err(FrameError::LengthTooLong));
    }
}

#[test]
fn a_length_with_leading_zeros_is_refused() {
    for bytes in [
        &[0xC0, 0x80, 0x00][..],
        &[0x30, 0x87, 0x00],
        &[0x30, 0x80, 0x80, 0x00],
        &[0x30, 0xFF, 0xFF, 0x80, 0x00],
    ] {
        let mut buf = BytesMut::from(bytes);
        assert_eq!(frame(&mut buf, PACKET_BYTES_MAX), Err(FrameError::LengthNotMinimal), "{bytes:02X?}");
    }
}

#[test]
fn topic_and_payload_are_slices_of_the_read_buffer() {
    let mut buf = BytesMut::from(wire("30 | s'some/topic' 'payload'").as_slice());
    let range = buf.as_ptr_range();
    let frame = frame(&mut buf, PACKET_BYTES_MAX).unwrap().unwrap();
    let Ok(Packet::Publish(publish)) = decode_from_client(frame, Version::V311) else { panic!("a PUBLISH") };
    let topic = publish.topic.unwrap();
    assert!(range.contains(&topic.as_ptr()));
    assert!(range.contains(&publish.payload.as_ptr()));
    assert!(!range.contains(&topic.detached().as_ptr()));
}

#[test]
fn the_length_of_a_packet_is_known_from_its_fixed_header_and_from_no_less() {
    for cut in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x80, 0x80], &[0x30, 0x80, 0x00]] {
        assert_eq!(packet_len(cut), None, "{cut:02X?}");
    }
    assert_eq!(packet_len(&[0xC0, 0]), Some(2));
    assert_eq!(packet_len(&[0x30, 0x80, 0x01, 7]), Some(131));
    assert_eq!(packet_len(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), Some(PACKET_BYTES_MAX as usize));
}
