//! Long files of the shapes that once took minutes: the time grows with the length and not with its square.

use crate::good::{GOOD, parsed, problems};
use std::fmt::Write as _;
use std::time::Duration;

/// The bytes of a file: nearly as many as may be read.
const BYTES: usize = 1_000_000;
/// Processor time of a file. An unoptimised build takes about one second; with the square of the length it was 13 seconds to minutes.
const MOST: Duration = Duration::from_secs(10);

/// The processor time of the calling thread, in the kernel's hundredths of a second: a busy machine adds nothing to it.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let ticks = after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// What `read` comes to, within the time.
#[track_caller]
fn in_time<T>(read: impl FnOnce() -> T) -> T {
    let before = processor_time();
    let found = read();
    let took = processor_time() - before;
    assert!(took < MOST, "{took:?}");
    found
}

/// As many of `line`, told its number, as there is room for; and how many.
fn lines(bytes: usize, line: impl Fn(usize) -> String) -> (String, usize) {
    let mut text = String::new();
    let mut count = 0;
    while text.len() < bytes {
        let _ = writeln!(text, "{}", line(count));
        count += 1;
    }
    (text, count)
}

#[test]
fn one_line_with_many_values_is_read_in_time_and_the_last_is_blamed_at_its_column() {
    let head = "a = 1\noperators = [";
    let text = format!("{head}{}^]\n", "1, ".repeat(BYTES / 3));
    let found = in_time(|| problems(&text));
    let column = text.find('^').unwrap() - text.find('\n').unwrap();
    assert!(found.iter().any(|p| (p.line, p.column as usize) == (2, column)), "{found:?}");
}

#[test]
fn many_lines_that_are_not_toml_among_many_wrong_keys_are_all_reported_in_time() {
    let (wrong, keys) = lines(BYTES / 8, |number| format!("a{number} = 1"));
    let (broken, errors) = lines(BYTES / 8, |_| "=".to_owned());
    let found = in_time(|| problems(&format!("{wrong}{broken}")));
    assert_eq!(found.iter().filter(|p| p.message.starts_with("unknown key")).count(), keys);
    assert!(found.iter().filter(|p| p.message.starts_with("not valid TOML")).count() >= errors);
    assert!(found.is_sorted_by_key(|p| (p.line, p.column)));
}

#[test]
fn many_listeners_that_say_nothing_are_each_told_what_they_lack_in_time() {
    let (text, count) = lines(BYTES, |_| "[[listener]]".to_owned());
    let found = in_time(|| problems(&text));
    assert_eq!(found.iter().filter(|p| p.message == "[[listener]] has no \"certificate\"").count(), count);
}

#[test]
fn of_many_listeners_on_one_port_only_the_one_on_the_address_of_another_is_refused() {
    let (listener, policy) = GOOD.split_at(GOOD.find("[acl]").unwrap());
    let door = |number: usize| {
        let [.., high, middle, low] = number.to_be_bytes();
        listener.replace("127.0.0.1", &format!("10.{high}.{middle}.{low}"))
    };
    let (doors, count) = lines(BYTES / 8, door);
    let checked = parsed(&format!("{doors}{policy}")).expect("each has its own address");
    assert_eq!(checked.listeners.len(), count);
    let found = problems(&format!("{doors}{}{policy}", door(7)));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].message, "10.0.0.7:8883 is taken by the listener on 10.0.0.7:8883");
    let everywhere = door(0).replace("10.0.0.0", "0.0.0.0");
    let found = problems(&format!("{doors}{everywhere}{policy}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].message, "0.0.0.0:8883 is taken by the listener on 10.0.0.0:8883");
}

#[test]
fn many_names_that_no_listener_of_many_accepts_are_each_refused_in_time() {
    let (doors, _) = lines(BYTES / 2, |_| "[[listener]]".to_owned());
    let count = BYTES / 2 / 4;
    let text = format!("{doors}[identity]\noperators = [{}]\n", "\"\", ".repeat(count));
    let found = in_time(|| problems(&text));
    let refused = "\"\" in \"operators\" is not a name that a listener accepts";
    assert_eq!(found.iter().filter(|p| p.message == refused).count(), count);
}
