//! The devices that drop and return are other machines in truth. Here their work is done on the processors of the broker, and steady
//! pairs wait for it. It may go behind the broker and the pairs: the threads that do it get the scheduler's idle class, in which
//! they run when nobody else wants the processor, and keep nobody waiting. On a machine with other work they hardly run then.

use std::fs;
use std::process::{Command, Stdio};

/// The name of the thread that measures, which stays before the others.
pub(crate) const MEASURING: &str = "steady";

/// Where the work of the devices is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Among all others.
    Among,
    /// Behind all others.
    Behind,
}

/// The threads of this process are behind all others for as long as this is there. Where that is not allowed (it takes root to
/// get them back), or `chrt` is missing, they stay where they are.
pub(crate) struct Behind(bool);

impl Behind {
    pub(crate) fn step_back() -> Self {
        let allowed = may_come_back();
        if allowed {
            all_threads("--idle");
        }
        Self(allowed)
    }
}

impl Drop for Behind {
    /// What is started next, such as the next broker, would be behind too.
    fn drop(&mut self) {
        if self.0 {
            all_threads("--other");
        }
    }
}

/// Tried with a thread that nobody needs: threads that cannot come back would make the next broker a slow one.
fn may_come_back() -> bool {
    let trying = std::thread::spawn(|| {
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        chrt("--idle", &thread) && chrt("--other", &thread)
    });
    trying.join().unwrap_or(false)
}

fn all_threads(class: &str) {
    // Threads that begin later are in the class of the one that begins them.
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return };
    for thread in threads.flatten() {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if name.trim_end() != MEASURING {
            chrt(class, &thread.file_name().to_string_lossy());
        }
    }
}

fn chrt(class: &str, thread: &str) -> bool {
    let done = Command::new("chrt")
        .args([class, "--pid", "0", thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    done.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scheduling class of the calling thread; 5 is the idle one.
    fn class() -> u32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        after_name.split(' ').nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn threads_are_behind_until_the_end_of_it_and_the_one_that_measures_never_is() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (ask, asked) = std::sync::mpsc::channel::<u32>();
        let measuring = std::thread::Builder::new().name(MEASURING.to_owned()).spawn(move || {
            while told.recv().is_ok() {
                ask.send(class()).unwrap();
            }
        });
        let behind = Behind::step_back();
        assert_eq!(class(), if behind.0 { 5 } else { 0 });
        tell.send(()).unwrap();
        assert_eq!(asked.recv().unwrap(), 0);
        drop(behind);
        assert_eq!(class(), 0, "what is started next would be behind");
        drop(tell);
        measuring.unwrap().join().unwrap();
    }
}
