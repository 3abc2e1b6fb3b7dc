//! A map from texts to what lies in a place of its own, sharded behind short locks, and laid out for look-ups that wait for memory.
//!
//! A look-up reads two things: a byte of the hash in a small array, and the place beside it. Both addresses follow from the hash
//! alone (linear probing), so that the processor fetches both at once; in a table whose places are found through the bytes, it
//! fetches one after the other. A text that is not there is told by the bytes alone nearly always. A place holds its key and its
//! value, aligned as its type wants it: 64 bytes take one cache line and never two.

use std::hash::BuildHasher as _;
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use parking_lot::RwLock;

/// Places of a shard that has something.
const PLACES_MIN: usize = 3;
/// With less than one in so many places taken there are fewer.
const SHRINKS_BELOW: usize = 6;

/// What all hashers of the process have in common.
static SEED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));

/// 64 bits that nobody outside of the process can know: the standard library keys its own maps with what the operating system
/// says is random.
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

/// Peers choose what is hashed, and linear probing makes a collision dearer than other tables do. A hasher's own default takes its seed from
/// addresses and the time, which may be guessed; from this one nothing follows about where a text lies. Who can measure look-ups
/// well enough may still learn of single collisions: the hash is no cryptographic one, which would cost several times as much.
fn hasher() -> SeedableRandomState {
    SeedableRandomState::with_seed(random(), &SEED)
}

/// What a table holds: a value with its key, which does not change while it is in the table.
pub(super) trait Place {
    fn key(&self) -> &[u8];
}

pub(super) struct Table<P> {
    hasher: SeedableRandomState,
    /// A power of two of them.
    shards: Box<[Shard<P>]>,
}

/// In a cache line of its own, so that threads at different shards do not take it from each other.
#[repr(align(64))]
struct Shard<P>(RwLock<Places<P>>);

/// A hash table with linear probing. At most three quarters of the places are taken, so that every search ends, and a sixth at
/// least: what is taken out is given back.
struct Places<P> {
    /// Of each place: 0 when it is free, else some bits of the hash.
    tags: Box<[u8]>,
    places: Box<[Option<P>]>,
    taken: usize,
}

impl<P> Default for Places<P> {
    fn default() -> Self {
        Self { tags: Box::default(), places: Box::default(), taken: 0 }
    }
}

impl<P: Place> Table<P> {
    /// An empty table of so many shards, a power of two of at most 2^25. A shard takes 64 bytes.
    pub(super) fn new(shards: usize) -> Self {
        assert!(shards.is_power_of_two() && shards <= 1 << 25, "{shards} shards: some would stay empty");
        let shards = (0..shards).map(|_| Shard(RwLock::default())).collect();
        Self { hasher: hasher(), shards }
    }

    /// Shows what is filed under `key`. Its shard is held for reading meanwhile.
    pub(super) fn read<R>(&self, key: &[u8], read: impl FnOnce(&P) -> R) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        let places = self.shard(hash).read();
        let at = places.find(hash, key)?;
        places.places[at].as_ref().map(read)
    }

    /// Edits what is filed under `key`, or what `new` makes when nothing is.
    pub(super) fn edit_or_file<R>(
        &self,
        key: &[u8],
        new: impl FnOnce() -> P,
        edit: impl FnOnce(&mut P) -> R,
    ) -> R {
        let hash = self.hasher.hash_one(key);
        let mut places = self.shard(hash).write();
        if let Some(at) = places.find(hash, key)
            && let Some(place) = &mut places.places[at]
        {
            return edit(place);
        }
        let mut place = new();
        let result = edit(&mut place);
        places.file(hash, place, &self.hasher);
        result
    }

    /// Edits what is filed under `key`, which is taken out when `edit` says so.
    pub(super) fn edit_or_remove<R>(
        &self,
        key: &[u8],
        edit: impl FnOnce(&mut P) -> (R, bool),
    ) -> Option<(R, Option<P>)> {
        let hash = self.hasher.hash_one(key);
        let mut places = self.shard(hash).write();
        let at = places.find(hash, key)?;
        let (result, remove) = edit(places.places[at].as_mut()?);
        let removed = if remove { places.remove(at, &self.hasher) } else { None };
        Some((result, removed))
    }

    /// Files `place`, and gives what was filed under its key before.
    pub(super) fn file(&self, place: P) -> Option<P> {
        let hash = self.hasher.hash_one(place.key());
        let mut places = self.shard(hash).write();
        match places.find(hash, place.key()) {
            Some(at) => places.places[at].replace(place),
            None => {
                places.file(hash, place, &self.hasher);
                None
            }
        }
    }

    /// Takes out what is filed under `key`.
    pub(super) fn remove(&self, key: &[u8]) -> Option<P> {
        self.edit_or_remove(key, |_| ((), true))?.1
    }

    /// Shows everything, a shard after the other.
    pub(super) fn for_each(&self, mut see: impl FnMut(&P)) {
        for Shard(shard) in &self.shards {
            shard.read().places.iter().flatten().for_each(&mut see);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|Shard(shard)| shard.read().taken == 0)
    }

    /// Places that there are, taken or free.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.shards.iter().map(|Shard(shard)| shard.read().places.len()).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Places<P>> {
        // Other bits than those of the tag and of the place in the shard.
        let bits = usize::try_from((hash >> 7) & 0x01FF_FFFF).unwrap_or_default();
        &self.shards[bits & (self.shards.len() - 1)].0
    }
}

impl<P> Table<P> {
    /// Everything, in no particular order.
    pub(super) fn into_places(self) -> impl Iterator<Item = P> {
        self.shards.into_iter().flat_map(|Shard(shard)| shard.into_inner().places).flatten()
    }
}

impl<P: Place> Places<P> {
    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let wanted = tag(hash);
        let mut at = home(hash, self.tags.len());
        loop {
            let tag = *self.tags.get(at)?;
            if tag == wanted && self.places.get(at)?.as_ref().is_some_and(|place| place.key() == key) {
                return Some(at);
            }
            if tag == 0 {
                return None;
            }
            at = next(at, self.tags.len());
        }
    }

    /// Files what is not there yet.
    fn file(&mut self, hash: u64, place: P, hasher: &SeedableRandomState) {
        if (self.taken + 1) * 4 > self.tags.len() * 3 {
            // By a half, so that on the whole less is free than with twice as many places.
            self.rebuild(self.tags.len() + self.tags.len() / 2 + 1, hasher);
        }
        self.put(hash, place);
        self.taken += 1;
    }

    fn put(&mut self, hash: u64, place: P) {
        let mut at = home(hash, self.tags.len());
        while self.tags[at] != 0 {
            at = next(at, self.tags.len());
        }
        self.tags[at] = tag(hash);
        self.places[at] = Some(place);
    }

    /// Moves everything to so many places, or [`PLACES_MIN`].
    fn rebuild(&mut self, len: usize, hasher: &SeedableRandomState) {
        let len = len.max(PLACES_MIN);
        self.tags = vec![0; len].into();
        let places = std::mem::replace(&mut self.places, (0..len).map(|_| None).collect());
        for place in places.into_iter().flatten() {
            self.put(hasher.hash_one(place.key()), place);
        }
    }

    /// Takes out what is at `at`, and lets those behind it that were pushed away move up.
    fn remove(&mut self, at: usize, hasher: &SeedableRandomState) -> Option<P> {
        let removed = self.places[at].take();
        self.taken -= usize::from(removed.is_some());
        let len = self.tags.len();
        let (mut free, mut look) = (at, next(at, len));
        while let Some(place) = &self.places[look] {
            let from = home(hasher.hash_one(place.key()), len);
            // Whether `free` lies on the way from where it belongs to where it is, which may lead round the end.
            if (look + len - from) % len >= (look + len - free) % len {
                self.places[free] = self.places[look].take();
                self.tags[free] = self.tags[look];
                free = look;
            }
            look = next(look, len);
        }
        self.tags[free] = 0;
        if self.taken == 0 {
            *self = Self::default();
        } else if self.taken * SHRINKS_BELOW < len && len > PLACES_MIN {
            self.rebuild(self.taken * 2, hasher);
        }
        removed
    }
}

/// What stands for a taken place: never 0.
fn tag(hash: u64) -> u8 {
    hash.to_le_bytes()[0] | 0x80
}

/// Where of `len` places the search begins.
fn home(hash: u64, len: usize) -> usize {
    let at = u128::from(hash) * len as u128;
    usize::try_from(at >> 64).unwrap_or_default()
}

fn next(at: usize, len: usize) -> usize {
    if at + 1 < len { at + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Word(String, u32);

    impl Place for Word {
        fn key(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    fn held(table: &Table<Word>) -> HashMap<String, u32> {
        let mut held = HashMap::new();
        table.for_each(|word| assert_eq!(held.insert(word.0.clone(), word.1), None, "{} twice", word.0));
        held
    }

    #[test]
    fn a_table_holds_what_a_map_of_the_standard_library_holds_after_the_same_changes() {
        let mut state = 7_u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % u64::from(below)).unwrap()
        };
        for shards in [1, 4] {
            let (table, mut model) = (Table::new(shards), HashMap::new());
            for step in 0..30_000 {
                // Fewer and fewer, then more again, so that chains are cut everywhere.
                let text = random(if step % 6000 < 3000 { 900 } else { 60 }).to_string();
                match random(4) {
                    0 => {
                        let old = table.file(Word(text.clone(), step)).map(|word| word.1);
                        assert_eq!(old, model.insert(text, step));
                    }
                    1 => assert_eq!(
                        table.remove(text.as_bytes()),
                        model.remove(&text).map(|value| Word(text.clone(), value))
                    ),
                    2 => {
                        let new = || Word(text.clone(), 0);
                        table.edit_or_file(text.as_bytes(), new, |word| word.1 += 1);
                        *model.entry(text.clone()).or_default() += 1;
                    }
                    _ => {
                        let odd = |word: &mut Word| (word.1, word.1 % 2 == 1);
                        let edited = table.edit_or_remove(text.as_bytes(), odd);
                        assert_eq!(edited.as_ref().map(|(value, _)| *value), model.get(&text).copied());
                        if edited.is_some_and(|(_, removed)| removed.is_some()) {
                            assert_eq!(model.remove(&text).map(|value| value % 2), Some(1));
                        }
                    }
                }
                let probe = random(900).to_string();
                assert_eq!(table.read(probe.as_bytes(), |word| word.1), model.get(&probe).copied());
            }
            assert_eq!(held(&table), model);
            let all: HashMap<_, _> = table.into_places().map(|word| (word.0, word.1)).collect();
            assert_eq!(all, model);
        }
    }

    #[test]
    fn what_was_pushed_round_the_end_is_found_when_those_before_it_have_gone() {
        // Three of five places are taken: some chain leads round the end in about one round of seven.
        let mut round_the_end = 0;
        for round in 0..200 {
            let table = Table::new(1);
            let texts: Vec<String> = (0..3).map(|n| format!("{round}-{n}")).collect();
            for text in &texts {
                assert_eq!(table.file(Word(text.clone(), 1)), None);
            }
            let wrapped = {
                let places = table.shards[0].0.read();
                let home = |word: &Word| home(table.hasher.hash_one(word.key()), places.tags.len());
                let mut taken = places.places.iter().enumerate();
                taken.any(|(at, place)| place.as_ref().is_some_and(|word| at < home(word)))
            };
            round_the_end += usize::from(wrapped);
            for (gone, text) in texts.iter().enumerate() {
                assert!(table.remove(text.as_bytes()).is_some());
                for (number, other) in texts.iter().enumerate() {
                    assert_eq!(table.read(other.as_bytes(), |_| ()).is_some(), number > gone);
                }
            }
            assert!(held(&table).is_empty() && table.is_empty());
        }
        assert!(round_the_end > 0);
    }

    #[test]
    fn what_is_taken_out_gives_its_place_back() {
        const MANY: u32 = 20_000;
        let table = Table::new(4);
        for number in 0..MANY {
            table.file(Word(number.to_string(), number));
        }
        let full = table.capacity();
        assert!((MANY as usize * 4 / 3..MANY as usize * 3).contains(&full), "{full} places");
        for number in 0..MANY {
            assert!(table.remove(number.to_string().as_bytes()).is_some());
            let left = (MANY - number - 1) as usize;
            if left.is_multiple_of(1000) {
                let places = table.capacity();
                assert!(places <= (left * SHRINKS_BELOW).max(left + 64), "{places} places for {left}");
                assert_eq!(held(&table).len(), left);
            }
        }
        assert_eq!(table.capacity(), 0, "all of it");
        table.file(Word("again".to_owned(), 1));
        assert_eq!(table.read(b"again", |word| word.1), Some(1));
    }

    #[test]
    fn one_that_comes_and_goes_does_not_move_the_others_each_time() {
        let table = Table::new(1);
        let place = |number: u32| Word(number.to_string(), number);
        for number in 0..1_000 {
            table.file(place(number));
        }
        let moves = |number: u32| {
            let before = table.capacity();
            table.file(place(number));
            let between = table.capacity();
            table.remove(number.to_string().as_bytes());
            (before != between || between != table.capacity()) as u32
        };
        for left in (3..1_000).rev() {
            table.remove(left.to_string().as_bytes());
            let moved: u32 = (0..20).map(|_| moves(left)).sum();
            assert!(moved <= 1, "{moved} times of 20 with {left}");
        }
    }

    #[test]
    fn what_stays_is_never_missed_while_its_shard_grows_shrinks_and_moves_others_up() {
        let table = Table::new(1);
        let stable: Vec<Word> = (0..50).map(|number| Word(format!("stable {number}"), number)).collect();
        for word in &stable {
            table.file(Word(word.0.clone(), word.1));
        }
        thread::scope(|scope| {
            let churn = scope.spawn(|| {
                for round in 0..30 {
                    let texts: Vec<String> = (0..600).map(|number| format!("{round} {number}")).collect();
                    texts.iter().for_each(|text| drop(table.file(Word(text.clone(), round))));
                    assert!(table.capacity() > 800, "it has grown");
                    texts.iter().for_each(|text| assert!(table.remove(text.as_bytes()).is_some()));
                    assert!(table.capacity() <= 50 * SHRINKS_BELOW, "it has shrunk");
                }
            });
            while !churn.is_finished() {
                for word in &stable {
                    assert_eq!(table.read(word.key(), |found| found.1), Some(word.1), "{}", word.0);
                }
            }
        });
        assert_eq!(held(&table).len(), stable.len());
    }

    #[test]
    fn no_two_tables_lay_texts_out_alike() {
        assert_ne!(hasher().hash_one(b"a"), hasher().hash_one(b"a"));
    }

    #[test]
    #[should_panic(expected = "3 shards")]
    fn a_number_of_shards_of_which_some_would_stay_empty_is_refused() {
        drop(Table::<Word>::new(3));
    }

    #[test]
    fn an_empty_shard_takes_a_cache_line() {
        assert_eq!(size_of::<Shard<Word>>(), 64);
    }
}
