//! The note of an image that has not proven itself. It is one entry of NVS, so that it changes as a whole.
//!
//! It is written before the bootloader hears of the image, and erased when nothing is left to be done: whatever is cut
//! between, the next start finds out what was under way. While a note says [`Stage::Started`] the image is on trial; from
//! [`Stage::Proven`] on it stays, and from [`Stage::Reverting`] on it goes, also when what follows is cut.

use crate::platform::Place;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is to be tried, or on trial.
    Started,
    /// The broker has accepted a device that runs it.
    Proven,
    /// It is given up.
    Reverting,
}

/// An image that has not proven itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Where it is.
    pub place: Place,
    /// How far it has come.
    pub stage: Stage,
    /// How often it was started.
    pub boots: u8,
    /// The anti-rollback counter of its manifest.
    pub counter: u32,
}

impl Trial {
    /// A trial that begins.
    #[must_use]
    pub const fn of(place: Place, counter: u32) -> Self {
        Self { place, stage: Stage::Started, boots: 0, counter }
    }

    /// The number in the store; never 0, which says that there is none.
    #[must_use]
    pub fn pack(self) -> u64 {
        let stage = match self.stage {
            Stage::Started => 1,
            Stage::Proven => 2,
            Stage::Reverting => 3,
        };
        let place = match self.place {
            Place::First => 0,
            Place::Second => 1,
        };
        stage | place << 2 | u64::from(self.boots) << 8 | u64::from(self.counter) << 16
    }

    /// What the number in the store says; `None` for none, and for what nobody wrote.
    #[must_use]
    pub fn unpack(packed: u64) -> Option<Self> {
        let stage = match packed & 3 {
            1 => Stage::Started,
            2 => Stage::Proven,
            3 => Stage::Reverting,
            _ => return None,
        };
        let place = if packed & 4 == 0 { Place::First } else { Place::Second };
        let trial = Self { place, stage, boots: (packed >> 8) as u8, counter: (packed >> 16) as u32 };
        (trial.pack() == packed).then_some(trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_nothing_else_does() {
        for place in [Place::First, Place::Second] {
            for stage in [Stage::Started, Stage::Proven, Stage::Reverting] {
                for (boots, counter) in [(0, 0), (3, 7), (u8::MAX, u32::MAX)] {
                    let trial = Trial { place, stage, boots, counter };
                    assert_eq!(Trial::unpack(trial.pack()), Some(trial));
                    assert_ne!(trial.pack(), 0);
                }
            }
        }
        for strange in [0, 4, 8 | 1, 1 << 48 | 1, u64::MAX] {
            assert_eq!(Trial::unpack(strange), None, "{strange:#x}");
        }
    }
}
