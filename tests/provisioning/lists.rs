//! The broker's own revocation lists.

use std::time::Duration;

use signet::clock::Jump;

use crate::factory::Factory;

#[test]
fn a_new_list_is_written_when_the_clock_was_set() {
    let factory = Factory::new();
    let number = |factory: &Factory| {
        factory.broker().authority().and_then(|authority| authority.list()).map_or(0, |list| list.number)
    };
    factory.until("the list of the start", |factory| number(factory) > 0);
    let before = number(&factory);
    // A list that lasts seven days has lapsed after a jump of thirty.
    factory.broker().clock_was_set(Jump { by: Duration::from_secs(30 * 86_400), forward: true });
    factory.until("a new list", |factory| number(factory) > before);
}
