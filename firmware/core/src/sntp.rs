//! The time of day by SNTP (RFC 4330): one question, one answer.
//!
//! Nobody signs the answer. It is believed when it belongs to the question and the server says that it knows the time; that a
//! wrong one opens nothing is what the certificates' dates and [`crate::schedule`] are for.

use crate::platform::Rng;

/// The length of a question and of an answer, in bytes.
pub const PACKET_BYTES: usize = 48;
/// Its port.
pub const PORT: u16 = 123;
/// Seconds from 1900 to 1970.
const UNIX: u64 = 2_208_988_800;
/// The second half of the century that 32 bits of seconds since 1900 reach; what is below comes after 2036.
const ERA: u32 = 1 << 31;

/// A question that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    cookie: [u8; 8],
}

impl Question {
    /// A new one. What an honest client writes as its own time is random here: it says nothing about the device, and who cannot
    /// see the question cannot make an answer to it.
    pub fn new(rng: &mut impl Rng) -> Self {
        let mut cookie = [0; 8];
        rng.fill(&mut cookie);
        Self { cookie }
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        // Version 4, client.
        packet[0] = 4 << 3 | 3;
        packet[40..].copy_from_slice(&self.cookie);
        packet
    }

    /// Seconds since 1970, when `packet` is the answer to this question from a server that knows the time.
    #[must_use]
    pub fn answer(&self, packet: &[u8]) -> Option<u64> {
        let packet: &[u8; PACKET_BYTES] = packet.get(..PACKET_BYTES)?.try_into().ok()?;
        let (leap, mode, stratum) = (packet[0] >> 6, packet[0] & 7, packet[1]);
        // Stratum 0 is a refusal ("kiss of death"), 16 a clock that was never set; so is leap 3.
        if mode != 4 || leap == 3 || !(1..16).contains(&stratum) || packet[24..32] != self.cookie {
            return None;
        }
        let secs = u32::from_be_bytes([packet[40], packet[41], packet[42], packet[43]]);
        if secs == 0 {
            return None;
        }
        let since_1900 = u64::from(secs) + if secs < ERA { 1 << 32 } else { 0 };
        since_1900.checked_sub(UNIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u8);

    impl Rng for Counter {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 += 1;
                *byte = self.0;
            }
        }
    }

    fn answer(question: &Question, secs: u32) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        (packet[0], packet[1]) = (4 << 3 | 4, 2);
        packet[24..32].copy_from_slice(&question.packet()[40..]);
        packet[40..44].copy_from_slice(&secs.to_be_bytes());
        packet
    }

    #[test]
    fn the_time_of_an_answer_is_unix_time_also_after_2036() {
        let question = Question::new(&mut Counter(0));
        assert_eq!(question.packet()[0], 0x23);
        let at = |secs| question.answer(&answer(&question, secs));
        assert_eq!(at(3_995_481_600), Some(1_786_492_800));
        // 2036-02-07 06:28:16, the first second of the next era, less and more.
        assert_eq!(at(u32::MAX), Some(2_085_978_495));
        assert_eq!(at(1), Some(2_085_978_497));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_not_believed() {
        let mut rng = Counter(0);
        let (question, other) = (Question::new(&mut rng), Question::new(&mut rng));
        let good = answer(&question, 3_995_481_600);
        assert!(question.answer(&good).is_some());
        assert_eq!(other.answer(&good), None, "to another question");
        assert_eq!(question.answer(&good[..47]), None, "cut");
        for (at, with, what) in [
            (0, 4 << 3 | 3, "a question"),
            (0, 3 << 6 | 4 << 3 | 4, "a clock that was never set"),
            (1, 0, "a refusal"),
            (1, 16, "a server without a source"),
        ] {
            let mut bad = good;
            bad[at] = with;
            assert_eq!(question.answer(&bad), None, "{what}");
        }
        assert_eq!(question.answer(&answer(&question, 0)), None, "no time");
    }
}
