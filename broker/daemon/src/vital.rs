//! Work without which there is no broker. A panic in the work of one connection ends that connection; a panic here ends the
//! process, with a message, so that its supervisor starts it again. A broker that goes on without its timers, or without
//! its ear, would look alive and not be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs `work` on the runtime; the process ends when it panics.
pub(crate) fn spawn(on: &Handle, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    on.spawn(watched(name, work, end_process));
}

/// Runs `work`, and calls `end` with a message if it panics. A runtime that stops is no panic.
async fn watched(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
    end: impl FnOnce(&str) + Send + 'static,
) {
    let ended = tokio::spawn(work).await;
    if ended.is_err_and(|error| error.is_panic()) {
        end(&format!(
            "{name} ended by a panic; this is a defect, please report it. The broker cannot go on without it and stops, so \
             that its supervisor starts it again"
        ));
    }
}

fn end_process(message: &str) {
    tracing::error!("{message}");
    // No destructor could make anything better, and a core shows where it was.
    std::process::abort();
}

/// Polls the work of one peer. `Err`: it panicked, and must not be polled again.
pub(crate) fn poll_guarded<T>(
    work: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Panicked>> {
    match catch_unwind(AssertUnwindSafe(|| work.poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    }
}

/// The work of one peer panicked; the message is on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn work_that_panics_ends_the_process_with_its_name() {
        let (tell, told) = mpsc::channel();
        let broken = async { panic!("a defect") };
        runtime()
            .block_on(watched("the timers", broken, move |message| tell.send(message.to_owned()).unwrap()));
        assert!(told.recv().unwrap().starts_with("the timers ended by a panic"));
    }

    #[test]
    fn work_that_ends_well_or_stops_with_its_runtime_ends_nothing() {
        let (tell, told) = mpsc::channel();
        let runtime = runtime();
        let again = tell.clone();
        runtime.block_on(watched("one", async {}, move |_| again.send(()).unwrap()));
        let (began, begins) = mpsc::channel();
        let endless = async move {
            began.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        runtime.spawn(watched("another", endless, move |_| tell.send(()).unwrap()));
        begins.recv().unwrap();
        drop(runtime);
        assert!(told.recv().is_err(), "nobody was called");
    }

    #[test]
    fn a_panic_in_the_work_of_a_peer_is_told_and_goes_no_further() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut broken = std::pin::pin!(async { panic!("a defect") });
        let polled: Poll<Result<(), _>> = poll_guarded(broken.as_mut(), &mut cx);
        assert_eq!(polled, Poll::Ready(Err(Panicked)));
        let mut whole = std::pin::pin!(async { 7 });
        assert_eq!(poll_guarded(whole.as_mut(), &mut cx), Poll::Ready(Ok(7)));
    }
}
